package media

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestFindGoesOnUntilSomethingWorks(t *testing.T) {
	t.Parallel()
	have := pair{ffmpeg: tools(t).FFmpeg, ffprobe: tools(t).FFprobe}
	missing := func(context.Context) (pair, error) { return pair{}, errors.New("npm is not installed") }
	given := func(context.Context) (pair, error) { return have, nil }

	found, err := (&finder{folders: []string{t.TempDir()}, npm: given}).find(t.Context())
	if err != nil || found.FFmpeg != have.ffmpeg || found.Version == "" {
		t.Errorf("by npm: %+v, %v", found, err)
	}
	ran := false
	late := &finder{npm: missing, folders: []string{t.TempDir()}}
	late.apt = func(context.Context) error { ran = true; return errors.New("no network") }
	_, err = late.find(t.Context())
	if !ran || err == nil {
		t.Fatalf("apt-get ran: %v; %v", ran, err)
	}
	for _, says := range []string{"ffmpeg was not found: install it with `", installCommand(), "npm is not installed", "no network", envFolder} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%q does not say %q", err, says)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("not one sentence: %q", err)
	}
}

// A search that is called off finds nothing usable; that is no reason to install anything.
func TestFindInstallsNothingWhenCalledOff(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := &finder{folders: []string{filepath.Dir(tools(t).FFmpeg)}}
	f.npm = func(context.Context) (pair, error) { t.Error("npm was tried"); return pair{}, errors.New("npm") }
	f.apt = func(context.Context) error { t.Error("apt was tried"); return errors.New("apt") }
	if _, err := f.find(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestFindBelievesTheFolderItIsGiven(t *testing.T) {
	t.Parallel()
	_, err := (&finder{override: filepath.Join(t.TempDir(), "nowhere")}).find(t.Context())
	if err == nil || !strings.Contains(err.Error(), envFolder+" must name a folder with ffmpeg and ffprobe") {
		t.Errorf("got %v", err)
	}
}

func TestEveryNPMPackageIsPinned(t *testing.T) {
	t.Parallel()
	for _, platform := range []string{"linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"} {
		ffmpeg, ffprobe, ok := packages(platform)
		if !ok || len(ffmpeg.Integrity) != len("sha512-")+88 || len(ffprobe.Integrity) != len("sha512-")+88 {
			t.Errorf("%s: %v %+v %+v", platform, ok, ffmpeg, ffprobe)
		}
	}
	if _, _, ok := packages("plan9-x64"); ok {
		t.Error("plan9 has packages")
	}
}
