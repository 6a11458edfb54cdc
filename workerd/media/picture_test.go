package media

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"darkroom/workerd/engine"
)

func writeFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// quadrants is a picture whose corners are red, green, blue and white, in reading order.
func quadrants(width, height int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	corners := []color.RGBA{{255, 0, 0, 255}, {0, 255, 0, 255}, {0, 0, 255, 255}, {255, 255, 255, 255}}
	for y := range height {
		for x := range width {
			img.SetRGBA(x, y, corners[2*(2*y/height)+2*x/width])
		}
	}
	return img
}

// corners reads a raw frame's corners as letters, in reading order.
func corners(frame []byte, size Size) string {
	var letters strings.Builder
	for _, at := range []image.Point{{4, 4}, {size.Width - 5, 4}, {4, size.Height - 5}, {size.Width - 5, size.Height - 5}} {
		pixel := frame[(at.Y*size.Width+at.X)*3:][:3]
		switch {
		case pixel[0] > 200 && pixel[1] > 200 && pixel[2] > 200:
			letters.WriteByte('W')
		case pixel[0] > 200:
			letters.WriteByte('R')
		case pixel[1] > 200:
			letters.WriteByte('G')
		case pixel[2] > 200:
			letters.WriteByte('B')
		default:
			letters.WriteByte('?')
		}
	}
	return letters.String()
}

// exifBlock is a TIFF block with an orientation only.
func exifBlock(order binary.AppendByteOrder, mark string, turn int) []byte {
	block := []byte(mark)
	block = order.AppendUint16(block, 42)
	block = order.AppendUint32(block, 8)
	block = order.AppendUint16(block, 1)
	block = order.AppendUint16(block, 0x0112)
	block = order.AppendUint16(block, 3)
	block = order.AppendUint32(block, 1)
	block = order.AppendUint16(block, uint16(turn))
	return append(block, 0, 0, 0, 0, 0, 0)
}

// jpegWithTurn is a JPEG that says it must be turned.
func jpegWithTurn(t *testing.T, img image.Image, turn int) []byte {
	t.Helper()
	var data bytes.Buffer
	if err := jpeg.Encode(&data, img, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	content := append([]byte("Exif\x00\x00"), exifBlock(binary.BigEndian, "MM", turn)...)
	segment := binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(len(content)+2))
	return bytes.Join([][]byte{data.Bytes()[:2], segment, content, data.Bytes()[2:]}, nil)
}

// pngWithTurn is a PNG that says it must be turned.
func pngWithTurn(t *testing.T, img image.Image, turn int) []byte {
	t.Helper()
	var data bytes.Buffer
	if err := png.Encode(&data, img); err != nil {
		t.Fatal(err)
	}
	content := append([]byte("eXIf"), exifBlock(binary.LittleEndian, "II", turn)...)
	chunk := binary.BigEndian.AppendUint32(nil, uint32(len(content)-4))
	chunk = append(chunk, content...)
	chunk = binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE(content))
	const header = 8 + 25 // signature and IHDR
	return bytes.Join([][]byte{data.Bytes()[:header], chunk, data.Bytes()[header:]}, nil)
}

func TestPictureIsTurnedAsItsExifSays(t *testing.T) {
	t.Parallel()
	// What the stored corners RGBW show, by the definition of each orientation (Exif 2.3, 4.6.4.A).
	for turn, want := range map[int]string{1: "RGBW", 2: "GRWB", 3: "WBGR", 4: "BWRG", 5: "RBGW", 6: "BRWG", 7: "WGBR", 8: "GWRB", 0: "RGBW", 9: "RGBW"} {
		own := Size{Width: 80, Height: 40}
		size := own
		if turn >= 5 && turn <= 8 {
			size = Size{Width: 40, Height: 80}
		}
		stored := quadrants(own.Width, own.Height)
		for name, data := range map[string][]byte{"a.jpg": jpegWithTurn(t, stored, turn), "a.png": pngWithTurn(t, stored, turn)} {
			frame, err := Picture(t.Context(), writeFile(t, name, data), "picture", size)
			if err != nil {
				t.Fatal(err)
			}
			if got := corners(frame, size); got != want {
				t.Errorf("%s with orientation %d shows %s, want %s", name, turn, got, want)
			}
		}
	}
}

func TestPictureCoversAnySize(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		width, height := rapid.IntRange(1, 300).Draw(r, "width"), rapid.IntRange(1, 300).Draw(r, "height")
		size := Size{Width: 2 * rapid.IntRange(16, 100).Draw(r, "w/2"), Height: 2 * rapid.IntRange(16, 100).Draw(r, "h/2")}
		img := image.NewGray(image.Rect(0, 0, width, height))
		for i := range img.Pix {
			img.Pix[i] = 77
		}
		covered := cover(img, size)
		for i, value := range covered.Pix {
			if want := []byte{77, 77, 77, 255}[i%4]; value != want {
				r.Fatalf("byte %d is %d, want %d", i, value, want)
			}
		}
	})
}

func TestPictureCropsAroundTheMiddle(t *testing.T) {
	t.Parallel()
	wide := image.NewGray(image.Rect(0, 0, 300, 100))
	for y := range 100 {
		for x := 100; x < 200; x++ {
			wide.SetGray(x, y, color.Gray{Y: 255})
		}
	}
	var data bytes.Buffer
	if err := png.Encode(&data, wide); err != nil {
		t.Fatal(err)
	}
	size := Size{Width: 100, Height: 100}
	frame, err := Picture(t.Context(), writeFile(t, "wide.png", data.Bytes()), "picture", size)
	if err != nil {
		t.Fatal(err)
	}
	if off := difference(frame, flat(size, 255)); off > 0 {
		t.Errorf("the white middle is not all that is left: off by %.2f", off)
	}
}

func TestPictureReadsTransparentAndWebP(t *testing.T) {
	t.Parallel()
	hollow := image.NewNRGBA(image.Rect(0, 0, 33, 17))
	var data bytes.Buffer
	if err := png.Encode(&data, hollow); err != nil {
		t.Fatal(err)
	}
	frame, err := Picture(t.Context(), writeFile(t, "clear.png", data.Bytes()), "picture", small)
	if err != nil || difference(frame, flat(small, 255)) > 0 {
		t.Errorf("transparent is not white: %v", err)
	}
	webp, err := base64.StdEncoding.DecodeString("UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoBAAEAAwA0JaQAA3AA/vuUAAA=")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Picture(t.Context(), writeFile(t, "a.webp", webp), "picture", small); err != nil {
		t.Error(err)
	}
}

// hugePNG is a PNG of 60,000 x 60,000 black pixels in a few bytes: its header alone says so.
func hugePNG() []byte {
	header := append([]byte("IHDR"), 0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60, 8, 2, 0, 0, 0)
	data := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), header...)
	return binary.BigEndian.AppendUint32(data, crc32.ChecksumIEEE(header))
}

func TestPictureRefusesWhatIsNone(t *testing.T) {
	t.Parallel()
	photograph, err := os.ReadFile(photo("cat"))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		content []byte
		says    string
	}{
		"text.png":  {[]byte("just text"), "neither"},
		"empty.png": {nil, "empty"},
		"bomb.png":  {hugePNG(), "60000x60000 pixels"},
		"cut.jpg":   {photograph[:len(photograph)/2], "damaged"},
		"svg.png":   {[]byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`), "neither"},
		"gif.png":   {[]byte("GIF89a\x01\x00\x01\x00\x80\x00\x00"), "neither"},
	} {
		_, err := Picture(t.Context(), writeFile(t, name, test.content), "start picture", small)
		checkClass(t, err, engine.BadInput)
		if message := engine.MessageOf(err); !strings.Contains(message, test.says) || !strings.HasPrefix(message, "The start picture") {
			t.Errorf("%s: %q", name, message)
		}
	}
}

func TestOrientationSurvivesAnything(t *testing.T) {
	t.Parallel()
	whole := jpegWithTurn(t, quadrants(8, 8), 6)
	if got := orientation(bytes.NewReader(whole)); got != 6 {
		t.Fatalf("orientation %d", got)
	}
	rapid.Check(t, func(r *rapid.T) {
		data := bytes.Clone(whole[:rapid.IntRange(0, len(whole)).Draw(r, "length")])
		for range rapid.IntRange(0, 8).Draw(r, "changes") {
			if len(data) > 0 {
				data[rapid.IntRange(0, min(len(data), 64)-1).Draw(r, "at")] = rapid.Byte().Draw(r, "byte")
			}
		}
		if turn := orientation(bytes.NewReader(data)); turn < 1 || turn > 8 {
			r.Fatalf("orientation %d", turn)
		}
	})
}

func TestThumbnail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	clip := makeClip(t, filepath.Join(dir, "wide.mp4"), Size{Width: 1026, Height: 514}, Rate{Num: 16, Den: 1}, []byte{200, 10, 10})
	tall := writeFile(t, "tall.jpg", jpegWithTurn(t, quadrants(900, 90), 6))
	for from, want := range map[string]Size{
		photo("cat"): {Width: 640, Height: 427},
		clip:         {Width: 640, Height: 321},
		tall:         {Width: 90, Height: 900},
	} {
		to := filepath.Join(dir, "thumbnail.jpg")
		if err := tools(t).Thumbnail(t.Context(), from, to); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(to)
		if err != nil {
			t.Fatal(err)
		}
		config, err := jpeg.DecodeConfig(file)
		_ = file.Close()
		if err != nil || config.Width != want.Width || config.Height != want.Height {
			t.Errorf("%s: %dx%d, want %s: %v", from, config.Width, config.Height, want, err)
		}
	}
}

func TestSmallPictureIsASmallJPEG(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ width, height, wantWidth, wantHeight int }{
		{1000, 500, 320, 160}, {500, 1000, 160, 320}, {320, 320, 320, 320}, {64, 48, 64, 48}, {2000, 2, 320, 1},
	} {
		var data bytes.Buffer
		if err := png.Encode(&data, quadrants(test.width, test.height)); err != nil {
			t.Fatal(err)
		}
		small, err := SmallPicture(data.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		picture, err := jpeg.Decode(bytes.NewReader(small))
		if err != nil || picture.Bounds() != image.Rect(0, 0, test.wantWidth, test.wantHeight) {
			t.Errorf("%dx%d became %v, %v", test.width, test.height, picture.Bounds(), err)
		}
	}
	var data bytes.Buffer
	if err := png.Encode(&data, image.NewNRGBA(image.Rect(0, 0, 16, 16))); err != nil {
		t.Fatal(err)
	}
	small, err := SmallPicture(data.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	picture, err := jpeg.Decode(bytes.NewReader(small))
	if err != nil {
		t.Fatal(err)
	}
	if r, g, b, _ := picture.At(8, 8).RGBA(); min(r, g, b) < 0xf000 {
		t.Errorf("transparent became %d %d %d, not white", r>>8, g>>8, b>>8)
	}
	for _, bad := range [][]byte{nil, []byte("GIF89a"), data.Bytes()[:40]} {
		if _, err := SmallPicture(bad); err == nil {
			t.Errorf("%q was taken for a picture", bad)
		}
	}
}
