// Package params reads the params of tasks: JSON objects as clients and orchestrators write them. It is shared by all engines,
// so that a param means the same whichever engine runs a task.
package params

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"darkroom/workerd/engine"
)

// Params are a task's params. A value is looked for at the top and then in the payloads of the orchestrator (the params
// orchestrator_details and full_orchestrator_payload), where workers and clients put what all segments share.
type Params []map[string]json.RawMessage

// Size is a width and a height in pixels.
type Size struct{ Width, Height int }

// String writes the size as people do, such as "768x512".
func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Width, s.Height) }

// Parse reads the params of a task.
func Parse(raw json.RawMessage) (Params, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(raw, &top); err != nil || top == nil {
		return nil, &engine.Error{Class: engine.BadInput, Message: "The params are not a JSON object.", Err: err}
	}
	levels := Params{top}
	for _, name := range []string{"orchestrator_details", "full_orchestrator_payload"} {
		var nested map[string]json.RawMessage
		if json.Unmarshal(top[name], &nested) == nil && nested != nil {
			levels = append(levels, nested)
		}
	}
	return levels, nil
}

// Lookup reads the first of the named params that is there and not null into value, and says whether there is one. wanted
// describes it in messages, such as "a whole number of frames". A value of another kind is an [*engine.Error] of class
// [engine.BadInput].
func Lookup[T any](p Params, value *T, wanted string, names ...string) (found bool, err error) {
	for _, level := range p {
		for _, name := range names {
			raw, ok := level[name]
			if !ok || string(raw) == "null" {
				continue
			}
			if err := json.Unmarshal(raw, value); err != nil {
				return false, &engine.Error{Class: engine.BadInput, Message: "The param " + name + " must be " + wanted + ".", Err: err}
			}
			return true, nil
		}
	}
	return false, nil
}

// Prompt reads the param prompt, else base_prompt; "" when there is none.
func (p Params) Prompt() (string, error) {
	var prompt string
	_, err := Lookup(p, &prompt, "a text", "prompt", "base_prompt")
	return prompt, err
}

// Seed reads the param seed, else seed_base. When it is missing or negative, the seed is derived from the task's id, so that a
// repeat of the task gives the same result; it then fits into 31 bits, which every generator takes.
func (p Params) Seed(id uuid.UUID) (int64, error) {
	seed := int64(-1)
	if _, err := Lookup(p, &seed, "a whole number", "seed", "seed_base"); err != nil {
		return 0, err
	}
	if seed < 0 {
		digest := fnv.New32a()
		_, _ = digest.Write(id[:])
		seed = int64(digest.Sum32() >> 1)
	}
	return seed, nil
}

// Size reads the resolution of the output: the params parsed_resolution_wh, resolution or size ("768x512"), else width and height
// together. It is the zero Size when there is none. Both sides are above 0; what an engine can make is for the engine to check.
func (p Params) Size() (Size, error) {
	var text string
	found, err := Lookup(p, &text, `a size such as "768x512"`, "parsed_resolution_wh", "resolution", "size")
	if err != nil {
		return Size{}, err
	}
	if found {
		return parseSize(text)
	}
	var size Size
	wide, err := Lookup(p, &size.Width, "a whole number of pixels", "width")
	if err != nil {
		return Size{}, err
	}
	high, err := Lookup(p, &size.Height, "a whole number of pixels", "height")
	switch {
	case err != nil:
		return Size{}, err
	case !wide && !high:
		return Size{}, nil
	case !wide || !high:
		return Size{}, engine.Errorf(engine.BadInput, "The params width and height only count together: give both, or neither.")
	case size.Width <= 0 || size.Height <= 0:
		return Size{}, engine.Errorf(engine.BadInput, "The size %s cannot be used: width and height must be above 0.", size)
	}
	return size, nil
}

// parseSize reads a size such as "768x512".
func parseSize(text string) (Size, error) {
	width, height, _ := strings.Cut(text, "x")
	w, errW := strconv.Atoi(strings.TrimSpace(width))
	h, errH := strconv.Atoi(strings.TrimSpace(height))
	if errW != nil || errH != nil || w <= 0 || h <= 0 {
		return Size{}, engine.Errorf(engine.BadInput, "The resolution %s is not a size: write WIDTHxHEIGHT, such as 768x512.", Quote(text))
	}
	return Size{Width: w, Height: h}, nil
}

// Quote shows a user's text in a message: quoted, and cut to a length that stays readable.
func Quote(text string) string {
	const longest = 40
	if runes := []rune(text); len(runes) > longest {
		text = string(runes[:longest]) + "…"
	}
	return strconv.Quote(text)
}
