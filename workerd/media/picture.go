package media

import (
	"bufio"
	"context"
	"fmt"
	"image"
	"image/color"
	_ "image/jpeg" // registers the decoder
	_ "image/png"  // registers the decoder
	"io"
	"os"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp" // registers the decoder

	"darkroom/workerd/engine"
)

// Picture reads a JPEG, PNG or WebP file and returns it as one raw frame of size: turned upright as its EXIF data say, scaled
// and cropped around its middle to cover size, transparent parts on white. Colour profiles are not applied. label names
// the file in messages, such as "start picture".
func Picture(ctx context.Context, path, label string, size Size) ([]byte, error) {
	covered, err := picture(ctx, path, label, func(Size) (Size, error) { return size, nil })
	if err != nil {
		return nil, err
	}
	frame := make([]byte, 0, size.bytes())
	for i := 0; i < len(covered.Pix); i += 4 {
		frame = append(frame, covered.Pix[i:i+3]...)
	}
	return frame, nil
}

// picture is [Picture] with a size that may depend on the upright picture's own. It returns when ctx ends; decoding, which cannot be
// interrupted but is bounded by [MaxPixels], then ends by itself.
func picture(ctx context.Context, path, label string, choose func(own Size) (Size, error)) (*image.RGBA, error) {
	type result struct {
		covered *image.RGBA
		err     error
	}
	done := make(chan result, 1)
	go func() {
		covered, err := readPicture(path, label, choose)
		done <- result{covered, err}
	}()
	select {
	case <-ctx.Done():
		return nil, engine.Stopped(ctx)
	case result := <-done:
		return result.covered, result.err
	}
}

func readPicture(path, label string, choose func(own Size) (Size, error)) (*image.RGBA, error) {
	found, err := recogniseImage(path, label)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the %s: %w", label, err)
	}
	defer func() { _ = file.Close() }()
	damaged := func(err error) error {
		return &engine.Error{
			Class: engine.BadInput, Err: err,
			Message: fmt.Sprintf("The %s cannot be decoded as %s; it is damaged, cut short or of a kind that is not supported.", label, found.name),
		}
	}
	config, _, err := image.DecodeConfig(bufio.NewReader(file))
	if err != nil {
		return nil, damaged(err)
	}
	own := Size{Width: config.Width, Height: config.Height}
	if pixels := int64(own.Width) * int64(own.Height); pixels < 1 || pixels > MaxPixels {
		return nil, engine.Errorf(engine.BadInput, "The %s has %s pixels; at most %d million can be used.", label, own, MaxPixels/1_000_000)
	}
	turn := orientation(file)
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the %s: %w", label, err)
	}
	decoded, _, err := image.Decode(bufio.NewReader(file))
	if err != nil {
		return nil, damaged(err)
	}
	size, err := choose(turn.size(own))
	if err != nil {
		return nil, err
	}
	return turn.apply(cover(decoded, turn.size(size))), nil
}

// cover scales the largest middle part of a picture that has the shape of size to size, on white.
func cover(from image.Image, size Size) *image.RGBA {
	bounds := from.Bounds()
	width, height := bounds.Dx(), bounds.Dy()
	part := Size{Width: width, Height: max(1, (width*size.Height+size.Width/2)/size.Width)}
	if part.Height > height {
		part = Size{Width: max(1, min(width, (height*size.Width+size.Height/2)/size.Height)), Height: height}
	}
	corner := bounds.Min.Add(image.Pt((width-part.Width)/2, (height-part.Height)/2))
	to := image.NewRGBA(image.Rect(0, 0, size.Width, size.Height))
	draw.Draw(to, to.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	draw.CatmullRom.Scale(to, to.Bounds(), from, image.Rectangle{Min: corner, Max: corner.Add(image.Pt(part.Width, part.Height))}, draw.Over, nil)
	return to
}
