package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestPercentileIsANearestRank(t *testing.T) {
	t.Parallel()
	values := []float64{15, 50, 20, 40, 35}
	for p, want := range map[float64]float64{0: 15, 5: 15, 30: 20, 40: 20, 50: 35, 99: 50, 100: 50} {
		if got := percentile(values, p); got != want {
			t.Errorf("p%g: got %g, want %g", p, got, want)
		}
	}
	if values[0] != 15 {
		t.Error("the values were sorted in place")
	}
}

func TestMedianIsInTheMiddle(t *testing.T) {
	t.Parallel()
	if got := median([]float64{9, 1, 5}); got != 5 {
		t.Errorf("of three: %g", got)
	}
	if got := median([]float64{9, 1, 5, 6}); got != 5.5 {
		t.Errorf("of four: %g", got)
	}
}

func TestNumberHasThreeDigits(t *testing.T) {
	t.Parallel()
	for value, want := range map[float64]string{
		0: "0", 0.0123: "0.012", 0.876: "0.88", 9.994: "9.99", 9.996: "10.0", 99.94: "99.9", 99.96: "100", 1234.5: "1,235", 999_999_999: "999,999,999", -1234: "-1,234",
	} {
		if got := number(value); got != want {
			t.Errorf("%g: got %s, want %s", value, got, want)
		}
	}
}

func TestFiguresAreMediansOfTheRounds(t *testing.T) {
	t.Parallel()
	f := figures{samples: []sample{
		{rows: 100, seconds: 1, buffers: 1000}, {rows: 300, seconds: 1, buffers: 1500}, {rows: 400, seconds: 2, buffers: 8000},
	}}
	if f.rate() != 200 || f.lowest() != 100 || f.highest() != 300 || f.buffers() != 10 {
		t.Errorf("rate %g, from %g to %g, buffers %g", f.rate(), f.lowest(), f.highest(), f.buffers())
	}
}

func TestTargetsSayHitOrMissed(t *testing.T) {
	t.Parallel()
	r := newReport()
	r.target("one/limit", 0.49, "")
	r.target("depth/p99", 1.5, "")
	rows := r.targetRows()
	if len(rows) != 2 || rows[0][3] != "missed" || rows[1][3] != "hit" {
		t.Errorf("%v", rows)
	}
}

func TestChartIsXMLAndDrawsEveryBar(t *testing.T) {
	t.Parallel()
	c := chart{name: "x", title: "A < B & C", unit: "tasks/s", groups: []group{
		{label: "8 connections", bars: []bar{{label: "limit", value: 10, lowest: 9, high: 12}, {label: "darkroom", value: 0, ours: true}}},
		{label: "1 connection", bars: []bar{{label: "limit", value: 1}}},
	}}
	text := c.svg()
	for decoder := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(text, "<rect "); got != 3 {
		t.Errorf("%d bars", got)
	}
	if got := strings.Count(text, `<path class="w"`); got != 1 {
		t.Errorf("%d spreads", got)
	}
}
