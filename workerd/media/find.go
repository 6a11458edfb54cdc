package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"darkroom/sql/localpg/install"
)

// envFolder names the environment variable that overrides the search: a folder that holds ffmpeg and ffprobe, or "npm"
// for the npm packages.
const envFolder = "DARKROOM_FFMPEG"

// Tools are the programs ffmpeg and ffprobe, known to run and to have what this package needs.
type Tools struct {
	FFmpeg, FFprobe string // absolute paths
	Version         string // of ffmpeg, as it prints it

	// passthrough is the option that keeps each decoded frame as it is: -fps_mode since ffmpeg 5.1, -vsync before.
	passthrough string
}

// Find returns ffmpeg and ffprobe. It looks, in this order, into the folder $DARKROOM_FFMPEG, at PATH, into the folders of
// packagers, at the npm packages @ffmpeg-installer and @ffprobe-installer of this platform (fetched with the user's
// npm and kept in the cache folder), and at last, as root on a machine with apt-get, it installs Debian's package. log is
// told what takes time; nil is nobody.
//
// When DARKROOM_FFMPEG is set nothing else is tried, and a wrong value is an error. When nothing is found the error is one
// sentence that names the command which installs ffmpeg on this platform.
func Find(ctx context.Context, log io.Writer) (*Tools, error) {
	if log == nil {
		log = io.Discard
	}
	f := finder{
		override: os.Getenv(envFolder),
		folders: append(filepath.SplitList(os.Getenv("PATH")),
			"/usr/bin", "/usr/local/bin",
			"/opt/homebrew/bin", // Homebrew on arm64
			"/opt/local/bin",    // MacPorts
			"/snap/bin",
		),
		npm: func(ctx context.Context) (pair, error) { return fetch(ctx, log) },
	}
	if install.CanApt() {
		f.apt = func(ctx context.Context) error { return install.Apt(ctx, log, "ffmpeg") }
	}
	return f.find(ctx)
}

// finder is one search. Its fields are what it reads from the machine, so that tests can replace them.
type finder struct {
	override string
	folders  []string
	npm      func(ctx context.Context) (pair, error)
	apt      func(ctx context.Context) error // nil where it cannot be used
}

// pair is where the two programs lie.
type pair struct{ ffmpeg, ffprobe string }

func inFolder(dir string) pair {
	return pair{ffmpeg: filepath.Join(dir, "ffmpeg"), ffprobe: filepath.Join(dir, "ffprobe")}
}

func (f *finder) find(ctx context.Context) (*Tools, error) {
	switch f.override {
	case "":
	case "npm":
		found, err := f.npm(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s=npm: %w", envFolder, err)
		}
		return check(ctx, found)
	default:
		tools, err := check(ctx, inFolder(f.override))
		if err != nil {
			return nil, fmt.Errorf("%s must name a folder with ffmpeg and ffprobe: %w", envFolder, err)
		}
		return tools, nil
	}
	var rejected []error
	if tools := f.installed(ctx, &rejected); tools != nil {
		return tools, nil
	}
	// Without ctx nothing could be tried: what is installed is not missing then.
	if ctx.Err() == nil {
		found, err := f.npm(ctx)
		if err == nil {
			var tools *Tools
			if tools, err = check(ctx, found); err == nil {
				return tools, nil
			}
		}
		rejected = append(rejected, err)
	}
	if ctx.Err() == nil && f.apt != nil {
		if err := f.apt(ctx); err != nil {
			rejected = append(rejected, err)
		} else if tools := f.installed(ctx, &rejected); tools != nil {
			return tools, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("look for ffmpeg: %w", err)
	}
	why := ""
	if err := errors.Join(rejected...); err != nil {
		why = " (" + strings.ReplaceAll(err.Error(), "\n", "; ") + ")"
	}
	return nil, fmt.Errorf("ffmpeg was not found: install it with `%s`, or set %s to the folder of ffmpeg and ffprobe%s",
		installCommand(), envFolder, why)
}

// installed returns the first usable pair in the folders, or nil. What is there but not usable is appended to rejected.
func (f *finder) installed(ctx context.Context, rejected *[]error) *Tools {
	for _, dir := range f.folders {
		candidate := inFolder(dir)
		if !isFile(candidate.ffmpeg) || !isFile(candidate.ffprobe) {
			continue
		}
		tools, err := check(ctx, candidate)
		if err == nil {
			return tools
		}
		*rejected = append(*rejected, err)
	}
	return nil
}

// check says whether the two programs run and can write H.264.
func check(ctx context.Context, found pair) (*Tools, error) {
	tools := &Tools{passthrough: "-vsync"}
	for path, target := range map[string]*string{found.ffmpeg: &tools.FFmpeg, found.ffprobe: &tools.FFprobe} {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("look for ffmpeg in %q: %w", path, err)
		}
		*target = abs
	}
	banner, err := output(ctx, tools.FFmpeg, "-version")
	if err != nil {
		return nil, fmt.Errorf("%s does not run: %w", tools.FFmpeg, err)
	}
	fields := strings.Fields(string(banner)) // "ffmpeg version 5.1.9-0+deb12u1 Copyright ..."
	if len(fields) < 3 || fields[0] != "ffmpeg" {
		return nil, fmt.Errorf("%s is not ffmpeg", tools.FFmpeg)
	}
	tools.Version = fields[2]
	if _, err := output(ctx, tools.FFprobe, "-version"); err != nil {
		return nil, fmt.Errorf("%s does not run: %w", tools.FFprobe, err)
	}
	if err := tools.checkEncoder(ctx); err != nil {
		return nil, err
	}
	options, err := output(ctx, tools.FFmpeg, "-hide_banner", "-h", "long")
	if err != nil {
		return nil, fmt.Errorf("%s does not list its options: %w", tools.FFmpeg, err)
	}
	if strings.Contains(string(options), "\n-fps_mode") {
		tools.passthrough = "-fps_mode"
	}
	return tools, nil
}

// checkEncoder runs ffmpeg to see whether it has the encoder for H.264.
func (t *Tools) checkEncoder(ctx context.Context) error {
	encoders, err := output(ctx, t.FFmpeg, "-hide_banner", "-encoders")
	if err != nil {
		return fmt.Errorf("%s does not list its encoders: %w", t.FFmpeg, err)
	}
	if !strings.Contains(string(encoders), " libx264 ") {
		return fmt.Errorf("%s cannot write H.264 since it was built without libx264", t.FFmpeg)
	}
	return nil
}

// packages returns the npm packages of this platform that hold the two programs; they are those whose archives were seen
// to hold real binaries.
func packages(platform string) (ffmpeg, ffprobe install.Package, ok bool) {
	pinned := map[string][4]string{
		"linux-x64": {
			"4.1.0", "sha512-Y5BWhGLU/WpQjOArNIgXD3z5mxxdV8c41C+U15nsE5yF8tVcdCGet5zPs5Zy3Ta6bU7haGpIzryutqCGQA/W8A==",
			"5.2.0", "sha512-D3UeqTLYPNs7pBWPLUYGehPdRVqU8eACox4OZy3pZUZatxye2YKlvBwEfaLdL1v2Z4FOAlLUhms0kY8m8kqSRA==",
		},
		"linux-arm64": {
			"4.1.4", "sha512-dljEqAOD0oIM6O6DxBW9US/FkvqvQwgJ2lGHOwHDDwu/pX8+V0YsDL1xqHbj1DMX/+nP9rxw7G7gcUvGspSoKg==",
			"5.2.0", "sha512-X1VvWtlLs6ScP73biVLuHD5ohKJKsMTa0vafCESOen4mOoNeLAYbxOVxDWAdFz9cpZgRiloFj5QD6nDj8E28yQ==",
		},
		"darwin-x64": {
			"4.1.0", "sha512-Z4EyG3cIFjdhlY8wI9aLUXuH8nVt7E9SlMVZtWvSPnm2sm37/yC2CwjUzyCQbJbySnef1tQwGG2Sx+uWhd9IAw==",
			"5.1.0", "sha512-J+YGscZMpQclFg31O4cfVRGmDpkVsQ2fZujoUdMAAYcP0NtqpC49Hs3SWJpBdsGB4VeqOt5TTm1vSZQzs1NkhA==",
		},
		"darwin-arm64": {
			"4.1.5", "sha512-hYqTiP63mXz7wSQfuqfFwfLOfwwFChUedeCVKkBtl/cliaTM7/ePI9bVzfZ2c+dWu3TqCwLDRWNSJ5pqZl8otA==",
			"5.0.1", "sha512-vwNCNjokH8hfkbl6m95zICHwkSzhEvDC3GVBcUp5HX8+4wsX10SP3B+bGur7XUzTIZ4cQpgJmEIAx6TUwRepMg==",
		},
	}
	pin, ok := pinned[platform]
	return install.Package{Name: "@ffmpeg-installer/" + platform, Version: pin[0], Integrity: pin[1]},
		install.Package{Name: "@ffprobe-installer/" + platform, Version: pin[2], Integrity: pin[3]}, ok
}

// fetch gets the two programs from npm.
func fetch(ctx context.Context, log io.Writer) (pair, error) {
	platform := runtime.GOOS + "-" + strings.Replace(runtime.GOARCH, "amd64", "x64", 1)
	ffmpeg, ffprobe, ok := packages(platform)
	if !ok {
		return pair{}, fmt.Errorf("npm has no ffmpeg for %s", platform)
	}
	var dirs [2]string
	for i, pkg := range []install.Package{ffmpeg, ffprobe} {
		dir, err := pkg.Fetch(ctx, func() {
			fmt.Fprintf(log, "ffmpeg is not installed: fetching %s@%s with npm (about 25 MB, once)\n", pkg.Name, pkg.Version)
		})
		if err != nil {
			return pair{}, fmt.Errorf("fetch %s: %w", pkg.Name, err)
		}
		dirs[i] = dir
	}
	return pair{ffmpeg: filepath.Join(dirs[0], "ffmpeg"), ffprobe: filepath.Join(dirs[1], "ffprobe")}, nil
}

// installCommand is what a person types on this platform to install ffmpeg.
func installCommand() string {
	if runtime.GOOS == "darwin" {
		return "brew install ffmpeg"
	}
	sudo := ""
	if os.Geteuid() != 0 {
		sudo = "sudo "
	}
	for _, manager := range [][2]string{
		{"apt-get", "apt-get install ffmpeg"},
		{"dnf", "dnf install ffmpeg"},
		{"apk", "apk add ffmpeg"},
		{"pacman", "pacman -S ffmpeg"},
		{"zypper", "zypper install ffmpeg"},
	} {
		if _, err := exec.LookPath(manager[0]); err == nil {
			return sudo + manager[1]
		}
	}
	return sudo + "apt-get install ffmpeg"
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
