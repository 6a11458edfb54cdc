package comfyui

import (
	"math"

	"darkroom/workerd/engine"
)

// meter adds the progress of nodes up. Each counts by its weight, and fetching the result by 1.
type meter struct {
	sink    engine.Sink
	weights map[string]float64
	shares  map[string]float64 // how far each node is, from 0 to 1
	last    string             // the node that was executing
	value   float64
	max     float64
	phase   string
}

func newMeter(sink engine.Sink, flow *workflow) *meter {
	m := &meter{sink: sink, weights: map[string]float64{}, shares: map[string]float64{}, max: 1, phase: "waiting"}
	for _, id := range flow.ids {
		m.weights[id] = flow.weight(id)
		m.max += m.weights[id]
	}
	m.tell()
	return m
}

func (m *meter) tell() { m.sink.Progress(engine.Progress{Value: m.value, Max: m.max, Phase: m.phase}) }

// begin says that the server works on the task now.
func (m *meter) begin() {
	if m.phase == "waiting" {
		m.phase = "working"
		m.tell()
	}
}

// current says which node executes, so that the one before is done. shown is the node of the workflow that it belongs to, for
// nodes that the server made.
func (m *meter) current(id, shown string) {
	if _, ok := m.weights[id]; !ok {
		id = shown
	}
	if m.last != "" && m.last != id {
		m.node(m.last, 1)
	}
	m.last = id
	m.begin()
}

// node says how far a node is. What the server says is not to be trusted: a share never falls.
func (m *meter) node(id string, share float64) {
	weight, ok := m.weights[id]
	if share = min(share, 1); !ok || math.IsNaN(share) || share <= m.shares[id] {
		return
	}
	m.value = min(m.value+weight*(share-m.shares[id]), m.max-1)
	m.shares[id] = share
	m.phase = "working"
	m.tell()
}

// fetching says that the result is being fetched.
func (m *meter) fetching() {
	m.value, m.phase = m.max-1, "fetching"
	m.tell()
}

// done says that all is done.
func (m *meter) done() {
	m.value, m.phase = m.max, "done"
	m.tell()
}
