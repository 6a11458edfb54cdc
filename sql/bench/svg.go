package main

import (
	"fmt"
	"html"
	"strings"
)

// chart is a plot of horizontal bars, in groups. It has no background and reads in light and dark.
type chart struct {
	name, title, unit string
	groups            []group
	together          bool // the groups share a scale; otherwise each has its own
}

type group struct {
	label string
	bars  []bar
}

// bar is a median with the lowest and highest of the rounds; these are left out when equal.
type bar struct {
	label               string
	value, lowest, high float64
	ours                bool
	text                string // beside the bar; empty: the value
}

// Sizes in pixels.
const (
	chartWidth = 820
	labelWidth = 230
	barHeight  = 18
	barStep    = 24
	groupGap   = 34
	rightSpace = 130 // for the value
)

const chartStyle = `text{font:13px system-ui,sans-serif;fill:#24292f}.t{font-size:16px;font-weight:600}.g{font-weight:600}.l{text-anchor:end}` +
	`.b{fill:#8c959f}.o{fill:#1f6feb}.w{stroke:#24292f;stroke-width:1}` +
	`@media(prefers-color-scheme:dark){text{fill:#e6edf3}.b{fill:#6e7681}.o{fill:#58a6ff}.w{stroke:#e6edf3}}`

// svg draws the chart.
func (c chart) svg() string {
	var all []bar
	height := 52
	for _, g := range c.groups {
		height += groupGap + barStep*len(g.bars)
		all = append(all, g.bars...)
	}

	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`,
		chartWidth, height, chartWidth, height, html.EscapeString(c.title))
	fmt.Fprintf(&out, "<style>%s</style>\n", chartStyle)
	fmt.Fprintf(&out, `<text class="t" x="0" y="20">%s</text><text x="0" y="40">%s</text>`+"\n", html.EscapeString(c.title), html.EscapeString(c.unit))
	y := 52
	for _, g := range c.groups {
		fmt.Fprintf(&out, `<text class="g" x="0" y="%d">%s</text>`+"\n", y+20, html.EscapeString(g.label))
		y += groupGap - 4
		scale := scaleOf(g.bars)
		if c.together {
			scale = scaleOf(all)
		}
		for _, b := range g.bars {
			out.WriteString(b.svg(y, scale))
			y += barStep
		}
		y += 4
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// scaleOf is how many pixels one stands for.
func scaleOf(bars []bar) float64 {
	var most float64
	for _, b := range bars {
		most = max(most, b.value, b.high)
	}
	if most == 0 {
		return 0
	}
	return (chartWidth - labelWidth - rightSpace) / most
}

func (b bar) svg(y int, scale float64) string {
	class := "b"
	if b.ours {
		class = "o"
	}
	text := b.text
	if text == "" {
		text = number(b.value)
	}
	var out strings.Builder
	end := labelWidth + b.value*scale
	fmt.Fprintf(&out, `<text class="l" x="%d" y="%d">%s</text>`, labelWidth-8, y+14, html.EscapeString(b.label))
	fmt.Fprintf(&out, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`, class, labelWidth, y, max(b.value*scale, 1), barHeight)
	if b.high > b.lowest {
		from, to := labelWidth+b.lowest*scale, labelWidth+b.high*scale
		fmt.Fprintf(&out, `<path class="w" d="M%.1f %dH%.1f"/>`, from, y+barHeight/2, to)
		end = max(end, to)
	}
	fmt.Fprintf(&out, `<text x="%.1f" y="%d">%s</text>`+"\n", end+6, y+14, html.EscapeString(text))
	return out.String()
}

// rateBar is the bar of a contender's rate.
func rateBar(c *contender, f *figures) bar {
	return bar{label: c.name, value: f.rate(), lowest: f.lowest(), high: f.highest(), ours: strings.HasPrefix(c.name, "darkroom")}
}
