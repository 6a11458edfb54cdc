package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/native/ort"
	"darkroom/workerd/lineup"
	"darkroom/workerd/media"
)

// patienceOfCheck is how long `workerd engine check` waits for engines that are still loading.
const patienceOfCheck = 20 * time.Second

// engineCommand is what stands after `workerd engine`.
type engineCommand func(ctx context.Context, s *settings, stdout, stderr io.Writer) error

var engineCommands = map[string]engineCommand{"check": checkEngines, "install": installLibrary}

// installLibrary fetches ONNX Runtime for the engine native.
func installLibrary(ctx context.Context, _ *settings, stdout, stderr io.Writer) error {
	path, err := ort.Install(ctx, stderr)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "ONNX Runtime is at %s: workerd finds it there when it starts.\n", path)
	return nil
}

// checkEngines prints what each engine says of itself and how it is. It fails when one is not well.
func checkEngines(ctx context.Context, s *settings, stdout, stderr io.Writer) (err error) {
	tools, err := media.Find(ctx, stderr)
	if err != nil {
		return err
	}
	engines, err := lineup.Open(ctx, s.engines, max(1, s.worker.Slots), tools)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engines.Close()) }()
	limit, cancel := context.WithTimeout(ctx, patienceOfCheck)
	defer cancel()
	var ill []string
	for _, e := range engines.Engines {
		info := e.Info()
		types := info.TaskTypes
		if e.TaskTypes != nil {
			types = e.TaskTypes
		}
		fmt.Fprintf(stdout, "%s (%s)\n", info.Name, e.Kind)
		fmt.Fprintf(stdout, "  task types  %s\n", strings.Join(types, ", "))
		fmt.Fprintf(stdout, "  device      %s%s\n", info.Device, memory(info.MemoryBytes))
		if len(info.Models) > 0 {
			fmt.Fprintf(stdout, "  models      %s\n", strings.Join(info.Models, ", "))
		}
		fmt.Fprintf(stdout, "  slots       %d\n", info.Slots)
		if err := untilWell(limit, e); err != nil {
			ill = append(ill, info.Name)
			fmt.Fprintf(stdout, "  health      %s\n", engine.MessageOf(err))
			continue
		}
		fmt.Fprintln(stdout, "  health      well")
	}
	if len(ill) > 0 {
		return fmt.Errorf("not all engines are well: %s", strings.Join(ill, ", "))
	}
	return nil
}

func memory(size int64) string {
	if size == 0 {
		return ""
	}
	return fmt.Sprintf(", %.1f GiB", float64(size)/(1<<30))
}

// untilWell asks an engine how it is until it is well or ctx ends, and returns what it said last.
func untilWell(ctx context.Context, e engine.Engine) error {
	for {
		asked, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		err := e.Health(asked)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}
