package lineup

import (
	"context"
	"errors"

	"github.com/goccy/go-yaml/ast"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/cog"
	"darkroom/workerd/engine/comfyui"
	"darkroom/workerd/engine/exec"
	"darkroom/workerd/engine/native"
	"darkroom/workerd/engine/openai"
	"darkroom/workerd/media"
	"darkroom/workerd/worker"
)

const (
	mediaKind  = "media"
	nativeKind = "native"
)

// kinds are the kinds of engines.
var kinds = map[string]opener{
	"cog":      opened(cog.New),
	"comfyui":  opened(comfyui.New),
	"exec":     opened(exec.New),
	mediaKind:  openMedia,
	nativeKind: openNative,
	"openai":   opened(openai.New),
}

func openNative(ctx context.Context, name string, node ast.Node, tools *media.Tools) (engine.Engine, error) {
	return opened(func(ctx context.Context, name string, c native.Config) (*native.Engine, error) {
		c.Tools = tools
		return native.New(ctx, name, c)
	})(ctx, name, node, tools)
}

// mediaConfig is what the file says of the engine media.
type mediaConfig struct {
	// Slots is how many tasks it does at the same time; 1 when 0.
	Slots int `yaml:"slots"`
}

func openMedia(ctx context.Context, name string, node ast.Node, tools *media.Tools) (engine.Engine, error) {
	return opened(func(_ context.Context, _ string, c mediaConfig) (*media.Engine, error) {
		if name != mediaKind {
			return nil, errors.New("the engine of the kind media is always named media: leave its name out")
		}
		if c.Slots < 0 {
			return nil, errors.New("slots must be at least 1")
		}
		return media.NewEngine(tools, max(1, c.Slots)), nil
	})(ctx, name, node, tools)
}

// builtIn makes the engines of a worker without a file.
func (l *Lineup) builtIn(ctx context.Context, slots int, tools *media.Tools) error {
	e, err := native.New(ctx, nativeKind, native.Config{Slots: slots, Tools: tools})
	if err != nil {
		return err
	}
	l.Engines = append(l.Engines, worker.Engine{Engine: e, Kind: nativeKind})
	return nil
}
