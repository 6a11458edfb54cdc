package media

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"os"

	"golang.org/x/image/draw"

	"darkroom/workerd/engine"
)

const (
	// ThumbnailWidth is how wide a poster is at most, in pixels.
	ThumbnailWidth = 640
	// previewWidth is how wide a preview of an unfinished result is at most, in pixels.
	previewWidth = 320
	// maxPreviewPixels is how large a picture may be that is made into a preview: decoding it must not be felt.
	maxPreviewPixels = 5_000_000
	// jpegQuality is out of 100.
	jpegQuality = 85
)

// Thumbnail writes a JPEG poster of a picture or of a video's first frame, at most [ThumbnailWidth] wide.
func (t *Tools) Thumbnail(ctx context.Context, from, to string) error {
	const label = "file"
	found, err := recognise(from, label)
	if err != nil {
		return err
	}
	var poster *image.RGBA
	if found.demuxer == "" {
		poster, err = picture(ctx, from, label, func(own Size) (Size, error) { return fit(own, ThumbnailWidth), nil })
	} else {
		poster, err = t.firstFrame(ctx, from, label)
	}
	if err != nil {
		return err
	}
	data, err := encodeJPEG(poster)
	if err != nil {
		return err
	}
	part := partOf(to)
	defer func() { _ = os.Remove(part) }()
	if err := os.WriteFile(part, data, 0o600); err != nil {
		return fmt.Errorf("write the thumbnail: %w", err)
	}
	if err := os.Rename(part, to); err != nil {
		return fmt.Errorf("put the thumbnail into its place: %w", err)
	}
	return nil
}

// firstFrame decodes the first frame of a video at the size of a thumbnail.
func (t *Tools) firstFrame(ctx context.Context, path, label string) (*image.RGBA, error) {
	video, err := t.Probe(ctx, path, label)
	if err != nil {
		return nil, err
	}
	size := fit(video.Size, ThumbnailWidth)
	var first *image.RGBA
	_, err = t.decode(ctx, &video, size, Rate{}, label, func(frame []byte) error {
		first = toImage(frame, size)
		return errEnough
	})
	if err == nil && first == nil {
		err = engine.Errorf(engine.BadInput, "The %s has no frame that can be decoded.", label)
	}
	return first, err
}

// fit returns the size of the same shape that is at most width wide and twice as high.
func fit(own Size, width int) Size {
	if own.Width > width {
		own = Size{Width: width, Height: max(1, (own.Height*width+own.Width/2)/own.Width)}
	}
	if height := 2 * width; own.Height > height {
		own = Size{Width: max(1, (own.Width*height+own.Height/2)/own.Height), Height: height}
	}
	return own
}

// toImage copies a raw frame.
func toImage(frame []byte, size Size) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, size.Width, size.Height))
	for from, to := 0, 0; from < len(frame); from, to = from+3, to+4 {
		copy(img.Pix[to:], frame[from:from+3])
		img.Pix[to+3] = 0xff
	}
	return img
}

// Preview draws a raw frame as a small JPEG.
func Preview(frame []byte, size Size) ([]byte, error) {
	small := fit(size, previewWidth)
	img := image.NewRGBA(image.Rect(0, 0, small.Width, small.Height))
	draw.ApproxBiLinear.Scale(img, img.Bounds(), toImage(frame, size), image.Rect(0, 0, size.Width, size.Height), draw.Src, nil)
	return encodeJPEG(img)
}

// SmallPicture makes a preview of a PNG, JPEG or WebP picture: a JPEG of at most 320 pixels a side, transparent parts on white.
func SmallPicture(data []byte) ([]byte, error) {
	config, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read a preview: %w", err)
	}
	if pixels := int64(config.Width) * int64(config.Height); pixels < 1 || pixels > maxPreviewPixels {
		return nil, fmt.Errorf("a preview has %dx%d pixels; at most %d million can be shown", config.Width, config.Height, maxPreviewPixels/1_000_000)
	}
	decoded, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read a preview: %w", err)
	}
	longer := max(config.Width, config.Height)
	small := Size{Width: config.Width, Height: config.Height}
	if longer > previewWidth {
		small = Size{Width: max(1, config.Width*previewWidth/longer), Height: max(1, config.Height*previewWidth/longer)}
	}
	img := image.NewRGBA(image.Rect(0, 0, small.Width, small.Height))
	draw.Draw(img, img.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	draw.ApproxBiLinear.Scale(img, img.Bounds(), decoded, decoded.Bounds(), draw.Over, nil)
	return encodeJPEG(img)
}

func encodeJPEG(img image.Image) ([]byte, error) {
	var data bytes.Buffer
	if err := jpeg.Encode(&data, img, &jpeg.Options{Quality: jpegQuality}); err != nil {
		return nil, fmt.Errorf("encode a JPEG: %w", err)
	}
	return data.Bytes(), nil
}
