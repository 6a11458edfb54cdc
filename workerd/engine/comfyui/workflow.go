package comfyui

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"darkroom/workerd/engine/template"
)

// workflow is a template in ComfyUI's API format: an object of nodes by id.
type workflow struct {
	template *template.Template
	nodes    map[string]node
	ids      []string // of nodes, in natural order
	output   string   // id of the node whose file is the result, or ""
}

// node is one node of a workflow.
type node struct {
	Class  string         `json:"class_type"`
	Inputs map[string]any `json:"inputs"` // literals, or links as [id, slot]
}

func load(task Task) (*workflow, error) {
	if task.Workflow == "" {
		return nil, errors.New("workflow is empty; give the path of a file saved by \"Export (API)\"")
	}
	data, err := os.ReadFile(task.Workflow)
	if err != nil {
		return nil, fmt.Errorf("read it: %w", err)
	}
	parsed, err := template.Parse(data)
	if err != nil {
		return nil, err
	}
	object, ok := parsed.Document().(map[string]any)
	if !ok || len(object) == 0 {
		return nil, errors.New("it is not an object of nodes; save it by \"Export (API)\"")
	}
	if _, ok := object["links"].([]any); ok {
		return nil, errors.New("it is in the format of the editor; save it by \"Export (API)\"")
	}
	flow := &workflow{template: parsed, nodes: map[string]node{}, output: task.OutputNode}
	for id, value := range object {
		object, _ := value.(map[string]any)
		class, _ := object["class_type"].(string)
		inputs, _ := object["inputs"].(map[string]any)
		if class == "" || inputs == nil {
			return nil, fmt.Errorf("the node %s lacks class_type or inputs; save the workflow by \"Export (API)\"", strconv.Quote(id))
		}
		flow.nodes[id] = node{Class: class, Inputs: inputs}
	}
	if _, ok := flow.nodes[flow.output]; flow.output != "" && !ok {
		return nil, fmt.Errorf("there is no node %s, as output_node has it", strconv.Quote(flow.output))
	}
	flow.ids = slices.SortedFunc(maps.Keys(flow.nodes), natural)
	return flow, nil
}

// natural orders node ids as ComfyUI gives them: by number, and those of subgraphs ("12:3") number by number.
func natural(a, b string) int {
	left, right := strings.Split(a, ":"), strings.Split(b, ":")
	return slices.CompareFunc(left, right, func(a, b string) int {
		m, errA := strconv.Atoi(a)
		n, errB := strconv.Atoi(b)
		if errA != nil || errB != nil {
			return cmp.Compare(a, b)
		}
		return cmp.Compare(m, n)
	})
}

// weight is a node's share of the progress: its steps where it samples, else 1. A sampler has the input latent_image; its
// steps are an input of its own, or of the scheduler that its sigmas come from.
func (w *workflow) weight(id string) float64 {
	inputs := w.nodes[id].Inputs
	if _, samples := inputs["latent_image"]; !samples {
		return 1
	}
	if link, ok := inputs["sigmas"].([]any); ok && len(link) == 2 {
		if from, ok := link[0].(string); ok {
			inputs = w.nodes[from].Inputs
		}
	}
	switch steps := inputs["steps"].(type) {
	case json.Number:
		if n, err := steps.Int64(); err == nil {
			return float64(min(max(n, 1), 1000))
		}
	case string: // a placeholder: the usual number will do, for this is only a share
		return 20
	}
	return 1
}

// models are the model files that the workflow names, sorted.
func (w *workflow) models() []string {
	found := map[string]bool{}
	for _, node := range w.nodes {
		for _, value := range node.Inputs {
			if model, ok := modelIn(value); ok {
				found[model] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// modelIn returns the name of a model file that an input has as its literal.
func modelIn(value any) (string, bool) {
	text, ok := value.(string)
	if !ok || template.Holds(text) {
		return "", false
	}
	for _, end := range []string{".safetensors", ".sft", ".ckpt", ".gguf", ".pt", ".pth"} {
		if strings.HasSuffix(strings.ToLower(text), end) {
			return text, true
		}
	}
	return "", false
}

// nodeInfo is a node's description by GET /object_info/{class}, as far as it is used. An input is [TYPE, options], where TYPE is the
// list of what may be chosen, or in newer nodes "COMBO" with the list in the options.
type nodeInfo struct {
	Input map[string]map[string]json.RawMessage `json:"input"` // by group: required, optional or hidden
}

// lacking returns a model that the node names and the server does not offer, or "".
func (n node) lacking(info nodeInfo) string {
	for _, group := range []string{"required", "optional"} {
		for name, raw := range info.Input[group] {
			model, ok := modelIn(n.Inputs[name])
			var description []json.RawMessage
			if !ok || json.Unmarshal(raw, &description) != nil || len(description) == 0 {
				continue
			}
			var choices []any
			if json.Unmarshal(description[0], &choices) != nil {
				var options struct {
					Options []any `json:"options"`
				}
				if len(description) < 2 || json.Unmarshal(description[1], &options) != nil || options.Options == nil {
					continue
				}
				choices = options.Options
			}
			if !slices.Contains(choices, any(model)) {
				return model
			}
		}
	}
	return ""
}
