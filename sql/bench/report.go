package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// report collects what the scenarios print, for the files of -out.
type report struct {
	machine []string
	notes   []string
	parts   []string // of results.md
	charts  []chart
	targets map[string]measured
	times   []string
}

func newReport() *report { return &report{targets: map[string]measured{}} }

// table prints a table, and keeps it for results.md. The first column is text, the others are figures.
func (r *report) table(title, note string, head []string, rows [][]string) {
	fmt.Printf("\n%s\n", title)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		fmt.Fprintln(w, "  "+strings.Join(row, "\t"))
	}
	_ = w.Flush()
	if note != "" {
		fmt.Println("  " + note)
	}

	var md strings.Builder
	fmt.Fprintf(&md, "### %s\n\n| %s |\n|%s\n", title, strings.Join(head, " | "), "---|"+strings.Repeat("---:|", len(head)-1))
	for _, row := range rows {
		fmt.Fprintf(&md, "| %s |\n", strings.Join(row, " | "))
	}
	if note != "" {
		fmt.Fprintf(&md, "\n%s\n", note)
	}
	r.parts = append(r.parts, md.String())
}

// plot keeps a chart for -out, after the table that was last.
func (r *report) plot(c chart) {
	r.charts = append(r.charts, c)
	r.parts = append(r.parts, fmt.Sprintf("![%s](%s.svg)\n", c.title, c.name))
}

func (r *report) took(scenario string, d time.Duration) {
	r.times = append(r.times, fmt.Sprintf("%s %.0f s", scenario, d.Seconds()))
	fmt.Printf("  (%s took %.0f s)\n", scenario, d.Seconds())
}

// finish prints the targets, and writes the files.
func (r *report) finish(out string) error {
	if rows := r.targetRows(); len(rows) > 0 {
		r.table("Targets", "A ratio is of medians measured in turns in this run.", []string{"", "target", "measured", "", "remark"}, rows)
		last := len(r.parts) - 1
		r.parts = append([]string{r.parts[last]}, r.parts[:last]...)
	}
	if out == "" {
		return nil
	}
	if err := os.MkdirAll(out, 0o755); err != nil { //nolint:gosec // a folder of results that all may read
		return fmt.Errorf("results: %w", err)
	}
	for _, c := range r.charts {
		if err := writeFile(filepath.Join(out, c.name+".svg"), c.svg()); err != nil {
			return err
		}
	}
	var md strings.Builder
	md.WriteString("## Measured\n\n")
	for _, line := range append(r.machine, r.notes...) {
		fmt.Fprintf(&md, "- %s\n", line)
	}
	fmt.Fprintf(&md, "- Time taken: %s\n\n%s", strings.Join(r.times, ", "), strings.Join(r.parts, "\n"))
	if err := writeFile(filepath.Join(out, "results.md"), md.String()); err != nil {
		return err
	}
	fmt.Printf("\nWritten to %s.\n", out)
	return nil
}

func writeFile(name, text string) error {
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil { //nolint:gosec // results that all may read
		return fmt.Errorf("results: %w", err)
	}
	return nil
}

// number writes a figure with three significant digits, or all before the point, in groups of three.
func number(v float64) string {
	switch size := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case size == 0:
		return "0"
	case size >= 99.95:
		return grouped(int64(math.Round(v)))
	case size >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case size >= 0.0995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	default:
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
}

func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	first := len(text) % 3
	if first == 0 || first == 1 && n < 0 {
		first += 3
	}
	var out strings.Builder
	out.WriteString(text[:min(first, len(text))])
	for i := first; i < len(text); i += 3 {
		out.WriteString("," + text[i:i+3])
	}
	return out.String()
}
