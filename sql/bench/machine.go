package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// machine says where and with what was measured.
func (e *env) machine(ctx context.Context) []string {
	setting := func(name string) string {
		var value string
		if err := e.admin.QueryRow(ctx, "select current_setting($1)", name).Scan(&value); err != nil {
			return "?"
		}
		return value
	}
	lines := []string{fmt.Sprintf("%s, %d × %s, %s of memory, %s", time.Now().Format(time.DateOnly), runtime.NumCPU(), fileField("/proc/cpuinfo", "model name"), memory(), kernel())}
	settings := make([]string, 0, 6)
	for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "checkpoint_timeout"} {
		settings = append(settings, name+" "+setting(name))
	}
	lines = append(lines, fmt.Sprintf("PostgreSQL %s: %s; server and clients on this machine", e.server.Version(), strings.Join(settings, ", ")))
	commit := "an unknown commit"
	if out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output(); err == nil {
		commit = "commit " + strings.TrimSpace(string(out))
	}
	return append(lines, fmt.Sprintf("Darkroom at %s, %s; %d rounds of %s each, in turns; scale %g", commit, runtime.Version(), e.opts.rounds, e.opts.round, e.opts.scale),
		"Load of the machine when it began: "+load1())
}

func fileField(name, field string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == field {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func memory() string {
	var kilobytes float64
	if _, err := fmt.Sscanf(fileField("/proc/meminfo", "MemTotal"), "%f kB", &kilobytes); err != nil {
		return "an unknown amount"
	}
	return fmt.Sprintf("%.0f GB", kilobytes/1e6)
}

func kernel() string {
	data, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return "Linux " + strings.TrimSpace(string(data))
}

func load1() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(data), " ")
	return first
}
