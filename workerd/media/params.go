package media

import (
	"darkroom/workerd/engine"
	"darkroom/workerd/engine/params"
)

// sizeOf reads the resolution of the output; the zero Size when there is none.
func sizeOf(p params.Params) (Size, error) {
	found, err := p.Size()
	size := Size(found)
	if err != nil || size == (Size{}) {
		return size, err
	}
	return size, size.check()
}

// rateOf reads the frame rate of the output.
func rateOf(p params.Params) (Rate, error) {
	fps := float64(defaultFPS)
	if _, err := params.Lookup(p, &fps, "a number of frames a second, such as 16", "fps_helpers", "fps"); err != nil {
		return Rate{}, err
	}
	return NewRate(fps)
}

// overlapsOf reads the frames of cross-fade at each of the boundaries; no such param means none. Payloads may carry one
// number for each segment; what follows the last boundary has no meaning.
func overlapsOf(p params.Params, boundaries int) ([]int, error) {
	var overlaps []int
	found, err := params.Lookup(p, &overlaps, "a list of frame counts, such as [4, 4]", "frame_overlap_settings_expanded", "frame_overlap_expanded")
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
