package media

import (
	"encoding/binary"
	"image"
	"io"
)

// exifTurn is EXIF's orientation of a picture: 1 is upright, 2 to 8 are the other turns and mirrorings (Exif 2.3, tag 0x0112).
type exifTurn int

// upright is the orientation of what says nothing else.
const upright exifTurn = 1

// maxHeaders bounds how far into a file its EXIF data are looked for, in bytes.
const maxHeaders = 1 << 20

// orientation reads the orientation from the EXIF data of a JPEG, PNG or WebP file. What is missing or damaged is upright.
func orientation(file io.ReaderAt) exifTurn {
	head := make([]byte, maxHeaders)
	n, _ := file.ReadAt(head, 0)
	head = head[:n]
	found, ok := sniff(head)
	if !ok {
		return upright
	}
	switch found.name {
	case "JPEG":
		return tiffTurn(jpegExif(head))
	case "PNG":
		return tiffTurn(chunkExif(head, 8, "eXIf", binary.BigEndian, 4, 0, 4))
	case "WebP":
		return tiffTurn(chunkExif(head, 12, "EXIF", binary.LittleEndian, 0, 4, 0))
	}
	return upright
}

// jpegExif returns the TIFF block in a JPEG file's APP1 segment, or nil.
func jpegExif(data []byte) []byte {
	for at := 2; at+4 <= len(data) && data[at] == 0xff; {
		marker, length := data[at+1], int(binary.BigEndian.Uint16(data[at+2:]))
		end := at + 2 + length
		if marker == 0xda || length < 2 || end > len(data) {
			return nil
		}
		const name = "Exif\x00\x00"
		if segment := data[at+4 : end]; marker == 0xe1 && len(segment) > len(name) && string(segment[:len(name)]) == name {
			return segment[len(name):]
		}
		at = end
	}
	return nil
}

// chunkExif returns the content of the chunk with the given name, or nil. Chunks begin at the offset start with a
// length at lengthAt and a name at nameAt; trailer bytes follow each, and WebP pads chunks to even lengths.
func chunkExif(data []byte, start int, name string, order binary.ByteOrder, nameAt, lengthAt, trailer int) []byte {
	for at := start; at+8 <= len(data); {
		length := int(order.Uint32(data[at+lengthAt:]))
		end := at + 8 + length
		if length < 0 || end > len(data) {
			return nil
		}
		if string(data[at+nameAt:at+nameAt+4]) == name {
			return data[at+8 : end]
		}
		at = end + trailer
		if trailer == 0 {
			at += length % 2
		}
	}
	return nil
}

// tiffTurn reads the orientation tag from the first directory of a TIFF block.
func tiffTurn(block []byte) exifTurn {
	const tag, entrySize, shortType = 0x0112, 12, 3
	if len(block) < 8 {
		return upright
	}
	var order binary.ByteOrder = binary.LittleEndian
	if string(block[:2]) == "MM" {
		order = binary.BigEndian
	}
	at := int64(order.Uint32(block[4:]))
	if at+2 > int64(len(block)) {
		return upright
	}
	entries := int64(order.Uint16(block[at:]))
	for at += 2; entries > 0 && at+entrySize <= int64(len(block)); entries, at = entries-1, at+entrySize {
		entry := block[at : at+entrySize]
		if order.Uint16(entry) != tag || order.Uint16(entry[2:]) != shortType {
			continue
		}
		if turn := exifTurn(order.Uint16(entry[8:])); turn >= 1 && turn <= 8 {
			return turn
		}
	}
	return upright
}

// size returns the size of a picture after, or equally before, the turn.
func (t exifTurn) size(s Size) Size {
	if t >= 5 {
		return Size{Width: s.Height, Height: s.Width}
	}
	return s
}

// apply turns a stored picture upright.
func (t exifTurn) apply(from *image.RGBA) *image.RGBA {
	if t == upright {
		return from
	}
	width, height := from.Rect.Dx(), from.Rect.Dy()
	size := t.size(Size{Width: width, Height: height})
	to := image.NewRGBA(image.Rect(0, 0, size.Width, size.Height))
	for y := range size.Height {
		for x := range size.Width {
			sx, sy := t.source(x, y, width-1, height-1)
			copy(to.Pix[to.PixOffset(x, y):], from.Pix[from.PixOffset(sx, sy):][:4])
		}
	}
	return to
}

// source says which stored pixel is shown at (x, y); right and bottom are the last column and row of the stored picture.
func (t exifTurn) source(x, y, right, bottom int) (sx, sy int) {
	switch t { //nolint:exhaustive // what is upright stays as it is
	case 2:
		return right - x, y
	case 3:
		return right - x, bottom - y
	case 4:
		return x, bottom - y
	case 5:
		return y, x
	case 6:
		return y, bottom - x
	case 7:
		return right - y, bottom - x
	case 8:
		return right - y, x
	}
	return x, y
}
