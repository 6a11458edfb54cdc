package openai

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/params"
)

// Config says which server does which tasks.
type Config struct {
	// URL is the base of the API, with its version, such as "http://127.0.0.1:8091/v1".
	URL string `yaml:"url"`
	// APIKeyEnv names the environment variable with the key, such as "OPENAI_API_KEY"; none when the server wants no key.
	APIKeyEnv string `yaml:"api_key_env"`
	// Slots is how many tasks the server is given at the same time, 1 when missing.
	Slots int `yaml:"slots"`
	// Tasks says by task type how it is done.
	Tasks map[string]Task `yaml:"tasks"`
}

// Values of Task.API.
const (
	Images = "images" // POST /images/generations: a picture from a prompt
	Edits  = "edits"  // POST /images/edits: a picture from a prompt and pictures
	Videos = "videos" // POST /videos: a video from a prompt, and pictures where Task.Files says so
)

// Task is how a type of tasks is done. Servers agree on the fields model, prompt, n and size; what else they take is said here.
type Task struct {
	// API is [Images], [Edits] or [Videos].
	API string `yaml:"api"`
	// Model is sent as model; nothing is sent when it is empty.
	Model string `yaml:"model"`
	// Sizes are those that the server takes, such as "1024x1024". The one nearest to the task's is sent, the first for a task
	// without a size. With no sizes here a task's size is sent as it is.
	Sizes []string `yaml:"sizes"`
	// Seed says that the server takes a field seed. OpenAI's own refuses it.
	Seed bool `yaml:"seed"`
	// Params names, by field of the request, the param of the task that is sent in it, such as num_frames: segment_frames_target.
	Params map[string]string `yaml:"params"`
	// Files names, by the role of an input, the field of the form that takes its file. When missing: for edits image: image and
	// mask: mask; for videos start_image: input_reference and image: input_reference.
	Files map[string]string `yaml:"files"`
	// Extra is sent with every request, such as response_format: b64_json.
	Extra map[string]any `yaml:"extra"`
	// JSON sends a video without files as JSON rather than as a form, as SGLang and Dynamo want it.
	JSON bool `yaml:"json"`
}

// reserved are the fields of a request that the engine itself writes, or that would change the form of the answer.
var reserved = []string{"model", "prompt", "n", "size", "stream"}

// field is what may be the name of a field of a form; names go into headers.
var field = regexp.MustCompile(`^[A-Za-z0-9_.\[\]-]{1,64}$`)

func (c *Config) check() error {
	if c.Slots == 0 {
		c.Slots = 1
	}
	if c.Slots < 0 {
		return fmt.Errorf("slots is %d; it must be at least 1", c.Slots)
	}
	if len(c.Tasks) == 0 {
		return errors.New("tasks is empty: name the task types that the engine does")
	}
	tasks := make(map[string]Task, len(c.Tasks))
	for taskType, task := range c.Tasks {
		if err := task.check(taskType); err != nil {
			return fmt.Errorf("task type %s: %w", taskType, err)
		}
		tasks[taskType] = task
	}
	c.Tasks = tasks
	return nil
}

func (t *Task) check(taskType string) error {
	if taskType == "" {
		return errors.New("it has no name")
	}
	switch t.API {
	case Images:
		if len(t.Files) > 0 {
			return errors.New("files: the API images takes no files; use edits")
		}
	case Edits:
		if t.Files == nil {
			t.Files = map[string]string{"image": "image", "mask": "mask"}
		}
	case Videos:
		if t.Files == nil {
			t.Files = map[string]string{string(engine.StartImage): "input_reference", "image": "input_reference"}
		}
		if taskType == "travel_segment" && t.Files[string(engine.EndImage)] == "" {
			return errors.New("files must name the server's field for end_image, such as last_input_reference, or the videos would not end where they must")
		}
	default:
		return fmt.Errorf("api is %q; it must be %s, %s or %s", t.API, Images, Edits, Videos)
	}
	if t.JSON && t.API != Videos {
		return errors.New("json is for the API videos only: pictures are always asked for as JSON, edits as a form")
	}
	for _, size := range t.Sizes {
		if _, err := parseSize(size); err != nil {
			return fmt.Errorf("sizes: %q is no size such as 1024x1024", size)
		}
	}
	for _, name := range slices.Concat(slices.Collect(maps.Keys(t.Extra)), slices.Collect(maps.Keys(t.Params)), slices.Collect(maps.Values(t.Files))) {
		if !field.MatchString(name) {
			return fmt.Errorf("%q cannot be the name of a field", name)
		}
		if slices.Contains(reserved, name) || name == "seed" && t.Seed {
			return fmt.Errorf("the field %s is written by the engine itself", name)
		}
	}
	return nil
}

// header returns what is sent with every request.
func (c *Config) header() (http.Header, error) {
	if c.APIKeyEnv == "" {
		return http.Header{}, nil
	}
	key := os.Getenv(c.APIKeyEnv)
	if key == "" {
		return nil, fmt.Errorf("the environment variable %s, which api_key_env names, is empty", c.APIKeyEnv)
	}
	return http.Header{"Authorization": {"Bearer " + key}}, nil
}

// models lists the models by name.
func (c *Config) models() []string {
	var list []string
	for task := range maps.Values(c.Tasks) {
		if task.Model != "" {
			list = append(list, task.Model)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func parseSize(text string) (params.Size, error) {
	var size params.Size
	var rest string
	if n, _ := fmt.Sscanf(text, "%dx%d%s", &size.Width, &size.Height, &rest); n != 2 || size.Width <= 0 || size.Height <= 0 {
		return params.Size{}, errors.New("not a size")
	}
	return size, nil
}
