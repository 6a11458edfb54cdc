// Package web serves the console: the page that shows what Darkroom makes. `make web` builds it into console/dist, which is committed, so that
// a build of the gateway needs no Node.
package web

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"
)

//go:embed all:console/dist
var dist embed.FS

// Where the console is. What the page has of its own stands below /p/, where it finds its way itself.
const (
	pathIndex  = "/"
	pathPages  = "/p/*"
	pathAssets = "/assets/:name"
	pathConfig = "/config.json"
)

// IsOpen reports whether the pattern of a route is one of the console's: they need no key.
func IsOpen(pattern string) bool {
	switch pattern {
	case pathIndex, pathPages, pathAssets, pathConfig:
		return true
	}
	return false
}

// Config is what the page is told, and where its pictures may come from.
type Config struct {
	Key       string // the public key: what supabase-js calls the anon key; "" where there is none
	Dev       bool   // whether this is `gateway dev`
	PublicURL string // where callers find the gateway, as https://tasks.example.com; "" as each request says
}

// Door serves the console.
type Door struct {
	index  *file
	assets map[string]*file
	config []byte
	policy string
}

// New makes the door.
func New(config Config) (*Door, error) {
	d := &Door{assets: map[string]*file{}, policy: policy(config.PublicURL)}
	var err error
	if d.config, err = json.Marshal(map[string]any{"key": config.Key, "dev": config.Dev}); err != nil {
		return nil, fmt.Errorf("writing %s: %w", pathConfig, err)
	}
	files, err := fs.Sub(dist, "console/dist")
	if err != nil {
		return nil, fmt.Errorf("opening the console: %w", err)
	}
	if d.index, err = readFile(files, "index.html"); err != nil {
		return nil, err
	}
	assets, err := fs.ReadDir(files, "assets")
	if err != nil {
		return nil, fmt.Errorf("opening the console: %w", err)
	}
	for _, asset := range assets {
		if d.assets[asset.Name()], err = readFile(files, "assets/"+asset.Name()); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Routes adds the console to the table of addresses.
func (d *Door) Routes(e *echo.Echo) {
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Add(method, pathIndex, d.servePage)
		e.Add(method, pathPages, d.servePage)
		e.Add(method, pathAssets, d.serveAsset)
		e.Add(method, pathConfig, d.serveConfig)
	}
}

// servePage answers the page. It is asked for anew each time, since it names the assets that there are.
func (d *Door) servePage(c echo.Context) error {
	header := c.Response().Header()
	header.Set("Content-Security-Policy", d.policy)
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cache-Control", "no-cache")
	d.index.serve(c)
	return nil
}

// serveAsset answers a script, style, picture or font. Their names have a hash of what is in them, so they are kept for good.
func (d *Door) serveAsset(c echo.Context) error {
	asset := d.assets[c.Param("name")]
	if asset == nil {
		return echo.ErrNotFound
	}
	c.Response().Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	asset.serve(c)
	return nil
}

func (d *Door) serveConfig(c echo.Context) error {
	return c.JSONBlob(http.StatusOK, d.config)
}

// policy is what the page may do: run and style by files of its own address alone, and call that address. Pictures and videos also come from
// wherever a worker stored them: the gateway's public address, or any other by TLS.
func policy(publicURL string) string {
	media := "'self' https: data: blob:"
	if u, err := url.Parse(publicURL); err == nil && u.Scheme == "http" && u.Host != "" {
		media += " http://" + u.Host
	}
	return strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "font-src 'self'", "connect-src 'self'",
		"img-src " + media, "media-src " + media, "manifest-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
	}, "; ")
}
