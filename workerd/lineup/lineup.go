// Package lineup makes the engines of a worker: those that a file names, or the built-in ones.
package lineup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"darkroom/workerd/engine"
	"darkroom/workerd/fetch"
	"darkroom/workerd/media"
	"darkroom/workerd/worker"
)

// Lineup is the engines of a worker, and what else their file says.
type Lineup struct {
	Engines      []worker.Engine
	Inputs       map[string][]worker.Input // for [worker.Config]
	Capabilities []string                  // for [worker.Config]
}

// Open makes the engines that the file names; without a name the built-in ones, each with so many slots. Engines need not be up. The engine media
// comes last where the file does not name it, for the stitches. An error is one sentence that says what is wrong, with file and line.
func Open(ctx context.Context, path string, slots int, tools *media.Tools) (*Lineup, error) {
	lineup := &Lineup{}
	var err error
	if path == "" {
		err = lineup.builtIn(ctx, slots, tools)
	} else {
		err = lineup.read(ctx, path, tools)
	}
	if err != nil {
		return nil, errors.Join(err, lineup.Close())
	}
	if !slices.ContainsFunc(lineup.Engines, func(e worker.Engine) bool { return e.Kind == mediaKind }) {
		lineup.Engines = append(lineup.Engines, worker.Engine{Engine: media.NewEngine(tools, slots), Kind: mediaKind, TaskTypes: []string{media.TravelStitch}})
	}
	return lineup, nil
}

// Slots is how many tasks the engines run well at the same time, together.
func (l *Lineup) Slots() int {
	sum := 0
	for _, e := range l.Engines {
		sum += e.Info().Slots
	}
	return sum
}

// Close ends what the engines hold: children and sockets.
func (l *Lineup) Close() error {
	var errs []error
	for _, e := range l.Engines {
		if closer, ok := e.Engine.(io.Closer); ok {
			errs = append(errs, closer.Close())
		}
	}
	return errors.Join(errs...)
}

// file is an engines file.
type file struct {
	Engines      []entry           `yaml:"engines"`
	Inputs       map[string]inputs `yaml:"inputs"`
	Capabilities []string          `yaml:"capabilities"`
}

// entry is an engine in the file, not yet read: its kind says what may stand there.
type entry struct{ node ast.Node }

// UnmarshalYAML keeps the text with its place.
func (e *entry) UnmarshalYAML(node ast.Node) error {
	e.node = node
	return nil
}

// inputs are the params of a task type that name files, in the order of the file.
type inputs []worker.Input

// UnmarshalYAML reads {param: kind}.
func (i *inputs) UnmarshalYAML(node ast.Node) error {
	var pairs yaml.MapSlice
	if err := yaml.NodeToValue(node, &pairs, yaml.Strict()); err != nil {
		return err //nolint:wrapcheck // it says the place
	}
	*i = inputs{} // none is not the default
	for _, pair := range pairs {
		kind, ok := map[any]fetch.Kind{"picture": fetch.Image, "video": fetch.Video}[pair.Value]
		param, isText := pair.Key.(string)
		if !ok || !isText {
			return fmt.Errorf("line %d: inputs: %v is %v; it must be picture or video", node.GetToken().Position.Line, pair.Key, pair.Value)
		}
		*i = append(*i, worker.Input{Param: param, Kind: kind})
	}
	return nil
}

func (l *Lineup) read(ctx context.Context, path string, tools *media.Tools) error {
	name := filepath.Base(path)
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("the engines file: %w", err)
	}
	var f file
	if err := yaml.UnmarshalWithOptions(text, &f, yaml.Strict()); err != nil {
		return fmt.Errorf("%s: %w", name, placed(err, nil))
	}
	if len(f.Engines) == 0 {
		return fmt.Errorf("%s names no engines: begin it with `engines:` and a list, or leave the setting out for the built-in ones", name)
	}
	l.Capabilities, l.Inputs = f.Capabilities, map[string][]worker.Input{}
	for taskType, list := range f.Inputs {
		l.Inputs[taskType] = list
	}
	for _, entry := range f.Engines {
		e, err := open(ctx, entry.node, tools)
		if err != nil {
			return fmt.Errorf("%s: %w", name, placed(err, entry.node))
		}
		l.Engines = append(l.Engines, e)
		if slices.ContainsFunc(l.Engines[:len(l.Engines)-1], func(other worker.Engine) bool { return other.Info().Name == e.Info().Name }) {
			return fmt.Errorf("%s: line %d: two engines are named %s: give one another name", name, entry.node.GetToken().Position.Line, e.Info().Name)
		}
	}
	return l.checkInputs(name)
}

// checkInputs refuses inputs of task types that no engine does: a misspelt one would be passed over in silence.
func (l *Lineup) checkInputs(name string) error {
	for taskType := range l.Inputs {
		does := func(e worker.Engine) bool { return slices.Contains(e.Info().TaskTypes, taskType) }
		if !slices.ContainsFunc(l.Engines, does) {
			return fmt.Errorf("%s: inputs names the task type %q, which none of the engines does", name, taskType)
		}
	}
	return nil
}

// placed says in one line what is wrong, and where: at the place that the error names, else at the node. The YAML reader's own text would show a
// part of the file, which may hold keys.
func placed(err error, node ast.Node) error {
	problem, isYAML := errors.AsType[yaml.Error](err)
	switch mismatch, isType := errors.AsType[*yaml.TypeError](err); {
	case isType:
		return fmt.Errorf("line %d: the value must be %s", mismatch.Token.Position.Line, inWords(mismatch.DstType))
	case isYAML && problem.GetToken() != nil:
		return fmt.Errorf("line %d: %s", problem.GetToken().Position.Line, problem.GetMessage())
	case node != nil:
		return fmt.Errorf("line %d: %w", node.GetToken().Position.Line, err)
	}
	return err
}

func inWords(kind reflect.Type) string {
	switch kind.Kind() { //nolint:exhaustive // the rest stands in no config, or is said well enough by its name
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.String:
		return "a text"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a table of keys and values"
	}
	return kind.String()
}

// head is what each engine has in the file.
type head struct {
	Name string `yaml:"name"`
	Kind string `yaml:"kind"`
}

var names = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

func open(ctx context.Context, node ast.Node, tools *media.Tools) (worker.Engine, error) {
	var h head
	if err := yaml.NodeToValue(node, &h); err != nil {
		return worker.Engine{}, err //nolint:wrapcheck // it says the place
	}
	openKind, ok := kinds[h.Kind]
	if !ok {
		return worker.Engine{}, fmt.Errorf("the kind %q is not known: choose %s", h.Kind, kindNames())
	}
	if h.Name == "" {
		h.Name = h.Kind
	}
	if !names.MatchString(h.Name) {
		return worker.Engine{}, fmt.Errorf("the name %q is not usable: take up to 63 small letters, digits, - and _", h.Name)
	}
	e, err := openKind(ctx, h.Name, node, tools)
	if err != nil {
		return worker.Engine{}, err
	}
	return worker.Engine{Engine: e, Kind: h.Kind}, nil
}

func kindNames() string {
	var list []string
	for name := range kinds {
		list = append(list, name)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// opener makes an engine of one kind from its place in the file.
type opener func(ctx context.Context, name string, node ast.Node, tools *media.Tools) (engine.Engine, error)

// opened reads the config C of a kind and makes its engine.
func opened[C any, E engine.Engine](open func(ctx context.Context, name string, config C) (E, error)) opener {
	return func(ctx context.Context, name string, node ast.Node, _ *media.Tools) (engine.Engine, error) {
		var c struct {
			Head   head `yaml:",inline"`
			Config C    `yaml:",inline"`
		}
		if err := yaml.NodeToValue(node, &c, yaml.Strict()); err != nil {
			return nil, err //nolint:wrapcheck // it says the place
		}
		return open(ctx, name, c.Config)
	}
}
