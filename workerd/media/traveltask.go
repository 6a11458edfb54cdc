package media

import (
	"context"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/params"
)

// TravelTask is what a task of the type travel_segment asks for, read and checked.
type TravelTask struct {
	Size       Size
	Rate       Rate
	Frames     int    // at least 2
	Start, End []byte // raw frames of Size
}

// ReadTravel reads a task of the type travel_segment, as [Engine] describes it. What is wrong with it is an [*engine.Error].
func ReadTravel(ctx context.Context, inputs []engine.Input, p params.Params) (*TravelTask, error) {
	start, end, err := travelInputs(inputs)
	if err != nil {
		return nil, err
	}
	travel := &TravelTask{}
	if travel.Size, err = sizeOf(p); err != nil {
		return nil, err
	}
	if travel.Size == (Size{}) {
		return nil, engine.Errorf(engine.BadInput, `The param parsed_resolution_wh is missing: give the size of the video, such as "768x512".`)
	}
	if travel.Rate, err = rateOf(p); err != nil {
		return nil, err
	}
	if found, err := params.Lookup(p, &travel.Frames, "a whole number of frames", "segment_frames_target"); err != nil {
		return nil, err
	} else if !found {
		return nil, engine.Errorf(engine.BadInput, "The param segment_frames_target is missing: give the number of frames of the video.")
	}
	if err := checkTravel(travel.Size, travel.Frames); err != nil {
		return nil, err
	}
	if travel.Start, err = Picture(ctx, start, "start picture", travel.Size); err != nil {
		return nil, err
	}
	if travel.End, err = Picture(ctx, end, "end picture", travel.Size); err != nil {
		return nil, err
	}
	return travel, nil
}

// Facts is the metadata of the video, made in the given way.
func (s *TravelTask) Facts(method string) map[string]any {
	return facts(s.Size, s.Rate, s.Frames, method)
}

// travelInputs returns the paths of the two pictures.
func travelInputs(inputs []engine.Input) (start, end string, err error) {
	if len(inputs) == 2 {
		start, end = inputs[0].Path, inputs[1].Path
	}
	for _, input := range inputs {
		switch input.Role { //nolint:exhaustive // other files are no pictures of a travel
		case engine.StartImage:
			start = input.Path
		case engine.EndImage:
			end = input.Path
		}
	}
	if start == "" || end == "" {
		return "", "", engine.Errorf(engine.BadInput, "A travel needs two pictures, a start and an end; %d were given.", len(inputs))
	}
	return start, end, nil
}
