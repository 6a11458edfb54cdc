package dev

import (
	"bytes"
	"fmt"
	"html/template"

	"darkroom/sql/taskdb"
)

// page shows what was made. It is a file, so it opens in a browser without a key.
var page = template.Must(template.New("").Parse(`<!doctype html>
<meta charset="utf-8">
<meta http-equiv="refresh" content="5">
<title>Darkroom</title>
<style>
  body { font: 15px system-ui, sans-serif; margin: 2rem; background: #1c1c1e; color: #eee }
  main { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem }
  figure { margin: 0 }
  img, video { width: 100%; border-radius: 6px; background: #333 }
</style>
<h1>Darkroom</h1>
<main>
{{range .}}<figure>
{{if eq .Type "video"}}<video src="{{.URL}}" poster="{{.Thumbnail}}" controls loop muted autoplay></video>{{else}}<a href="{{.URL}}"><img src="{{.URL}}" alt="{{.Title}}"></a>{{end}}
<figcaption>{{.Title}}</figcaption>
</figure>
{{end}}</main>
`))

// shown is a generation on the page.
type shown struct{ Type, URL, Thumbnail, Title string }

// writePage writes the page with the generations, newest first.
func (f *follower) writePage(list []taskdb.Generation) error {
	var all []shown
	for _, g := range list {
		if g.Location == nil {
			continue
		}
		s := shown{Type: g.Type, URL: f.present(*g.Location), Title: f.titles[*g.Location]}
		if g.ThumbnailURL != nil {
			s.Thumbnail = f.present(*g.ThumbnailURL)
		}
		all = append(all, s)
	}
	var text bytes.Buffer
	if err := page.Execute(&text, all); err != nil {
		return fmt.Errorf("writing the gallery: %w", err)
	}
	return f.writeFile(pageFile, text.Bytes())
}
