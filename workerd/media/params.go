package media

import (
	"encoding/json"

	"darkroom/workerd/engine"
)

// params are a task's params. A value is looked for at the top and then in the payloads of the orchestrator, where workers
// and clients put what all segments share.
type params []map[string]json.RawMessage

// parseParams reads the params of a task.
func parseParams(raw json.RawMessage) (params, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(raw, &top); err != nil || top == nil {
		return nil, &engine.Error{Class: engine.BadInput, Message: "The params are not a JSON object.", Err: err}
	}
	levels := params{top}
	for _, name := range []string{"orchestrator_details", "full_orchestrator_payload"} {
		var nested map[string]json.RawMessage
		if json.Unmarshal(top[name], &nested) == nil && nested != nil {
			levels = append(levels, nested)
		}
	}
	return levels, nil
}

// lookup reads the first of the named params that is there and not null into value. wanted describes it in messages.
func lookup[T any](p params, value *T, wanted string, names ...string) (found bool, err error) {
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

// size reads the resolution of the output; the zero Size when there is none.
func (p params) size() (Size, error) {
	var text string
	found, err := lookup(p, &text, `a size such as "768x512"`, "parsed_resolution_wh", "resolution")
	if err != nil || !found {
		return Size{}, err
	}
	return ParseSize(text)
}

// rate reads the frame rate of the output.
func (p params) rate() (Rate, error) {
	fps := float64(defaultFPS)
	if _, err := lookup(p, &fps, "a number of frames a second, such as 16", "fps_helpers", "fps"); err != nil {
		return Rate{}, err
	}
	return NewRate(fps)
}

// overlaps reads the frames of cross-fade at each of the boundaries; no such param means none. Payloads may carry one
// number for each segment; what follows the last boundary has no meaning.
func (p params) overlaps(boundaries int) ([]int, error) {
	var overlaps []int
	found, err := lookup(p, &overlaps, "a list of frame counts, such as [4, 4]", "frame_overlap_settings_expanded", "frame_overlap_expanded")
	if err != nil {
		return nil, err
	}
	if !found {
		return make([]int, boundaries), nil
	}
	if len(overlaps) < boundaries {
		return nil, engine.Errorf(engine.BadInput,
			"The param frame_overlap_settings_expanded has %d numbers, but %d segments have %d boundaries.", len(overlaps), boundaries+1, boundaries)
	}
	return overlaps[:boundaries], nil
}
