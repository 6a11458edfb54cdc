package comfyui

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/remote"
	"darkroom/workerd/engine/template"
)

// problem is one entry of node_errors in the answer to POST /prompt.
type problem struct {
	Class  string `json:"class_type"`
	Errors []struct {
		Type    string `json:"type"`
		Message string `json:"message"`
		Details string `json:"details"`
		Extra   struct {
			Input string `json:"input_name"`
		} `json:"extra_info"`
	} `json:"errors"`
}

// nodeErrors reads node_errors: an object by node, or an empty list.
func nodeErrors(raw json.RawMessage) map[string]problem {
	var problems map[string]problem
	if json.Unmarshal(raw, &problems) != nil {
		return nil
	}
	return problems
}

// refusal makes the error of a workflow that the server did not take. Only what came with the task is the task's fault; the rest of
// the workflow is the operator's, and another worker may have what this server lacks.
func (w *workflow) refusal(status *remote.StatusError, err error) error {
	var answer struct {
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
		NodeErrors json.RawMessage `json:"node_errors"`
	}
	if json.Unmarshal([]byte(status.Body), &answer) != nil {
		return err
	}
	if problems := nodeErrors(answer.NodeErrors); len(problems) > 0 {
		return w.fault(problems)
	}
	switch answer.Error.Type {
	case "invalid_prompt", "missing_node_type", "prompt_no_outputs": // a node that is not installed, or a workflow that saves nothing
		return &engine.Error{
			Class: engine.EngineDown, Err: status,
			Message: remote.Sentence("The ComfyUI server can't run the workflow; the operator must look at it: " + plain(answer.Error.Message)),
		}
	}
	return err
}

// fault makes the error of node_errors.
func (w *workflow) fault(problems map[string]problem) error {
	class := engine.EngineDown
	var told []string
	for _, id := range slices.SortedFunc(maps.Keys(problems), natural) {
		node := w.nodes[id]
		for _, one := range problems[id].Errors {
			var culprit any = node.Inputs
			if value, ok := node.Inputs[one.Extra.Input]; ok {
				culprit = value
			}
			if template.Holds(culprit) {
				class = engine.BadInput
			}
			text := fmt.Sprintf("%s (node %s): %s", problems[id].Class, id, one.Message)
			if one.Details != "" {
				text += ": " + one.Details
			}
			told = append(told, text)
		}
	}
	message := "ComfyUI refuses what the task gives: "
	if class == engine.EngineDown {
		message = "The ComfyUI server can't run the workflow; the operator must look at it: "
	}
	return &engine.Error{Class: class, Message: remote.Sentence(message + plain(strings.Join(told, "; ")))}
}

// executionError is the data of the event execution_error.
type executionError struct {
	NodeID   string `json:"node_id"`
	NodeType string `json:"node_type"`
	Message  string `json:"exception_message"`
	Type     string `json:"exception_type"` // such as "ValueError" or "torch.OutOfMemoryError"
}

// failure returns why a run that ended failed, or nil. The events go before status_str, which after a faulty graph is that of the run
// before.
func (e *entry) failure() error {
	if e.Status == nil {
		return nil
	}
	for _, message := range e.Status.Messages {
		var name string
		if json.Unmarshal(message[0], &name) != nil {
			continue
		}
		switch name {
		case "execution_interrupted":
			return engine.Errorf(engine.EngineDown, "The run was interrupted on the ComfyUI server; the task will be tried again.")
		case "execution_error":
			var failed executionError
			if err := json.Unmarshal(message[1], &failed); err != nil {
				return &engine.Error{Class: engine.EngineDown, Message: "The workflow failed on the ComfyUI server.", Err: err}
			}
			return failed.failure()
		}
	}
	if e.Status.Name == "error" {
		return engine.Errorf(engine.EngineDown, "The workflow failed on the ComfyUI server, which gives no reason.")
	}
	return nil
}

// hostErrors are exceptions that come from the machine or the network rather than from a task: another try may succeed.
var hostErrors = []string{
	"OSError", "IOError", "FileNotFoundError", "PermissionError", "TimeoutError", "ConnectionError", "ConnectionResetError",
	"ConnectionRefusedError", "BrokenPipeError", "SafetensorError", "torch.AcceleratorError",
}

// failure classifies an exception in a node. One that is not known to come from memory, the device, the machine or the network
// is the task's: the same params would raise it again, and each try costs GPU time.
func (e executionError) failure() error {
	name := e.Type[strings.LastIndexAny(e.Type, ".")+1:]
	cause := errors.New(remote.Quote(e.Type + " in node " + e.NodeID + ": " + e.Message))
	where := fmt.Sprintf("%s (node %s)", e.NodeType, e.NodeID)
	switch {
	case remote.IsOutOfMemory(e.Type + " " + e.Message), strings.HasPrefix(e.Message, "Allocation on device"), name == "MemoryError":
		return &engine.Error{Class: engine.OutOfMem, Message: "The engine ran out of memory in " + where + "; a smaller output may fit.", Err: cause}
	case remote.IsDeviceFailure(e.Type + " " + e.Message):
		return &engine.Error{Class: engine.EngineDown, Message: "The device of the ComfyUI server failed in " + where + "; the task will be tried again.", Err: cause}
	case slices.Contains(hostErrors, name), slices.Contains(hostErrors, e.Type):
		return &engine.Error{Class: engine.EngineDown, Message: "The ComfyUI server failed in " + where + "; the task will be tried again.", Err: cause}
	}
	return &engine.Error{Class: engine.BadInput, Message: remote.Sentence("The workflow failed in " + where + ": " + cmp.Or(plain(e.Message), e.Type)), Err: cause}
}

// paths are absolute paths of the server.
var paths = regexp.MustCompile(`(^|[\s'"(=])(?:[A-Za-z]:\\|\\\\|/)(?:[^\s/\\'":;,]+[/\\])+([^\s/\\'":;,]*)`)

// plain makes a text of the server fit for the owner of a task: short, on one line and without paths of the server.
func plain(text string) string { return remote.Quote(paths.ReplaceAllString(text, "$1$2")) }
