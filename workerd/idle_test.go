package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
)

// BenchmarkIdle measures the memory of a worker that has no work, with the built-in engines: what is its own (anon-MB), and with the
// pages of its program and libraries that happen to be in memory (rss-MB).
func BenchmarkIdle(b *testing.B) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		b.Skip("this system has no /proc to read a program's memory from")
	}
	db := setup(b)
	for b.Loop() {
		p := db.start(b, "idle", "DARKROOM_ENGINES=")
		p.logs(b, "ready")
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
		must(b, err)
		for name, unit := range map[string]string{"RssAnon": "anon-MB", "VmRSS": "rss-MB"} {
			found := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(status)
			if found == nil {
				b.Fatalf("no %s in %s", name, status)
			}
			kilobytes, err := strconv.ParseFloat(string(found[1]), 64)
			must(b, err)
			b.ReportMetric(kilobytes/1024, unit)
		}
		must(b, p.Process.Kill())
		<-p.ended
	}
}
