package native

import (
	"bytes"
	"fmt"
	"image"
	"image/png"

	"golang.org/x/image/draw"

	"darkroom/workerd/engine/params"
)

// planes is a picture as the nets see it: three channels, one after the other, from -1 to 1.
type planes struct {
	width, height int
	numbers       []float32
}

// image turns planes into a picture for people.
func (p planes) image() *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, p.width, p.height))
	area := p.width * p.height
	for channel := range 3 {
		for i, value := range p.numbers[channel*area : (channel+1)*area] {
			img.Pix[4*i+channel] = byte(min(max(value*127.5+128, 0), 255)) // +127.5 and rounded
		}
	}
	for i := 3; i < len(img.Pix); i += 4 {
		img.Pix[i] = 0xff
	}
	return img
}

// planesOf turns a picture into planes.
func planesOf(img *image.RGBA) planes {
	size := img.Bounds().Size()
	area := size.X * size.Y
	p := planes{width: size.X, height: size.Y, numbers: make([]float32, 3*area)}
	for i := range area {
		for channel := range 3 {
			p.numbers[channel*area+i] = float32(img.Pix[4*i+channel])/127.5 - 1
		}
	}
	return p
}

// crop cuts out a part of planes.
func (p planes) crop(part image.Rectangle) planes {
	if part == image.Rect(0, 0, p.width, p.height) {
		return p
	}
	cut := planes{width: part.Dx(), height: part.Dy(), numbers: make([]float32, 0, 3*part.Dx()*part.Dy())}
	for channel := range 3 {
		for y := part.Min.Y; y < part.Max.Y; y++ {
			row := p.numbers[(channel*p.height+y)*p.width:]
			cut.numbers = append(cut.numbers, row[part.Min.X:part.Max.X]...)
		}
	}
	return cut
}

// scale draws a picture at another size.
func scale(img *image.RGBA, width, height int) *image.RGBA {
	if img.Bounds() == image.Rect(0, 0, width, height) {
		return img
	}
	to := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.CatmullRom.Scale(to, to.Bounds(), img, img.Bounds(), draw.Src, nil)
	return to
}

// fill draws a square picture as large as fits into the middle of size, and goes on beside it: from the colours at its edge to
// the mean colour of its border.
func fill(square *image.RGBA, size params.Size) *image.RGBA {
	side := min(size.Width, size.Height)
	square = scale(square, side, side)
	if size.Width == size.Height {
		return square
	}
	to := image.NewRGBA(image.Rect(0, 0, size.Width, size.Height))
	corner := image.Pt((size.Width-side)/2, (size.Height-side)/2)
	mean := borderColor(square)
	blend := max(1, side/12) // the pixels within which the colours meet
	for y := range size.Height {
		for x := range size.Width {
			from := image.Pt(min(max(x-corner.X, 0), side-1), min(max(y-corner.Y, 0), side-1))
			away := max(abs(x-corner.X-from.X), abs(y-corner.Y-from.Y))
			share := min(away, blend)
			source, target := square.Pix[square.PixOffset(from.X, from.Y):][:4], to.Pix[to.PixOffset(x, y):][:4]
			for channel := range 3 {
				target[channel] = byte((int(source[channel])*(blend-share) + int(mean[channel])*share + blend/2) / blend) //nolint:gosec // between two bytes
			}
			target[3] = 0xff
		}
	}
	return to
}

// borderColor is the mean colour of a picture's outermost pixels.
func borderColor(img *image.RGBA) [3]byte {
	var sum [3]int
	count := 0
	size := img.Bounds().Size()
	add := func(x, y int) {
		at := img.PixOffset(x, y)
		for channel := range 3 {
			sum[channel] += int(img.Pix[at+channel])
		}
		count++
	}
	for x := range size.X {
		add(x, 0)
		add(x, size.Y-1)
	}
	for y := range size.Y {
		add(0, y)
		add(size.X-1, y)
	}
	var mean [3]byte
	for channel := range 3 {
		mean[channel] = byte((sum[channel] + count/2) / count) //nolint:gosec // a mean of bytes
	}
	return mean
}

func abs(x int) int { return max(x, -x) }

// encodePNG writes a picture as PNG, fast rather than small.
func encodePNG(img image.Image) ([]byte, error) {
	var data bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&data, img); err != nil {
		return nil, fmt.Errorf("encode a PNG: %w", err)
	}
	return data.Bytes(), nil
}
