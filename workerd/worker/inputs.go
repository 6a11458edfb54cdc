package worker

import (
	"context"
	"encoding/json"
	"errors"

	"darkroom/sql/taskdb"
	"darkroom/workerd/engine"
	"darkroom/workerd/fetch"
)

// maxInputs is how many files one param may name.
const maxInputs = 100

// Input is a param whose value names a file, or a list of files, to fetch for the engine; the name of the param is the role of the file.
type Input struct {
	Param string
	Kind  fetch.Kind
}

// DefaultInputs returns the params that name files where [Config.Inputs] says nothing of the task type.
func DefaultInputs(taskType string) []Input {
	if taskType == segment {
		return []Input{{string(engine.StartImage), fetch.Image}, {string(engine.EndImage), fetch.Image}}
	}
	return []Input{{"image", fetch.Image}, {"mask", fetch.Image}}
}

// wanted is a file to fetch.
type wanted struct {
	reference string
	role      engine.Role
	kind      fetch.Kind
}

// inputs fetches what the task works on.
func (w *Worker) inputs(ctx context.Context, task taskdb.Task, folder string) ([]engine.Input, error) {
	find := w.named
	if task.TaskType == stitch {
		find = w.segments
	}
	list, err := find(ctx, task)
	if err != nil {
		return nil, err
	}
	inputs := make([]engine.Input, 0, len(list))
	for _, want := range list {
		file, err := w.fetcher.Fetch(ctx, want.reference, task.OwnerID, folder, want.kind)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, engine.Input{Path: file.Path, MediaType: file.MediaType, Role: want.role})
	}
	return inputs, nil
}

// segments lists what a stitch joins: the outputs of the tasks it waited for.
func (w *Worker) segments(ctx context.Context, task taskdb.Task) ([]wanted, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	outputs, err := w.db.GetDependencyOutputs(ctx, task.ID)
	if err != nil {
		return nil, &engine.Error{Class: engine.EngineDown, Message: "The database could not be read; the task will be tried again.", Err: err}
	}
	list := make([]wanted, 0, len(outputs))
	for _, output := range outputs {
		if output.OutputLocation == nil {
			return nil, engine.Errorf(engine.BadInput, "Segment %d has no output.", output.Ordinal)
		}
		list = append(list, wanted{*output.OutputLocation, engine.Segment, fetch.Video})
	}
	return list, nil
}

// named lists the files that params name.
func (w *Worker) named(_ context.Context, task taskdb.Task) ([]wanted, error) {
	inputs, said := w.Inputs[task.TaskType]
	if !said {
		inputs = DefaultInputs(task.TaskType)
	}
	var params map[string]json.RawMessage
	if err := json.Unmarshal(task.Params, &params); err != nil {
		return nil, &engine.Error{Class: engine.BadInput, Message: "The params are not a JSON object.", Err: err}
	}
	var list []wanted
	for _, input := range inputs {
		references, err := references(params[input.Param])
		if err != nil {
			return nil, &engine.Error{
				Class: engine.BadInput, Message: "The param " + input.Param + " must be the address or key of a file, or a list of up to 100 of them.", Err: err,
			}
		}
		for _, reference := range references {
			list = append(list, wanted{reference, engine.Role(input.Param), input.Kind})
		}
	}
	return list, nil
}

// references reads a text or a list of texts; nothing, null and the empty text are none.
func references(raw json.RawMessage) ([]string, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil { // null leaves it empty
		if one == "" {
			return nil, nil
		}
		return []string{one}, nil
	}
	var many []string
	if err := json.Unmarshal(raw, &many); err != nil {
		return nil, err //nolint:wrapcheck // the caller says which param
	}
	if len(many) > maxInputs {
		return nil, errors.New("too many")
	}
	return many, nil
}
