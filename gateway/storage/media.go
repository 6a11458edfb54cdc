package storage

import (
	"bytes"
	"net/http"
)

// sniffBytes is as much of a file as [MediaType] looks at.
const sniffBytes = 512

// MediaType tells from the first bytes of a file, 512 are enough, which of the media types this project handles it has:
// image/png, image/jpeg, image/webp, video/mp4, video/webm or video/quicktime; else it returns "". Names and declared
// types play no part.
func MediaType(head []byte) string {
	if len(head) >= 12 && string(head[4:8]) == "ftyp" {
		switch string(head[8:12]) { // the major brand
		case "qt  ":
			return "video/quicktime"
		case "heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1", "avif", "avis", "crx ", "jpx ", "jp2 ":
			return "" // a picture in the same kind of box
		default:
			return "video/mp4"
		}
	}
	switch mediaType := http.DetectContentType(head); mediaType {
	case "image/png", "image/jpeg", "image/webp":
		return mediaType
	case "video/webm":
		// Every Matroska file begins so; WebM's own name stands in the header's DocType.
		if bytes.Contains(head[:min(len(head), 64)], []byte("webm")) {
			return mediaType
		}
	}
	return ""
}

// UploadType tells from the first bytes of a file, 512 are enough, which of the media types it has that people may upload: those of [MediaType] and
// image/gif, image/avif, audio/wav and audio/mpeg; else it returns "". All are shown by browsers without running anything in them.
func UploadType(head []byte) string {
	if mediaType := MediaType(head); mediaType != "" {
		return mediaType
	}
	if len(head) >= 12 && (string(head[4:12]) == "ftypavif" || string(head[4:12]) == "ftypavis") {
		return "image/avif"
	}
	switch mediaType := http.DetectContentType(head); mediaType {
	case "image/gif", "audio/mpeg":
		return mediaType
	case "audio/wave":
		return "audio/wav"
	}
	return ""
}

// outputType is [MediaType] less what browsers show only in part.
func outputType(head []byte) string {
	if mediaType := MediaType(head); mediaType != "video/quicktime" {
		return mediaType
	}
	return ""
}

// servable says whether the type is one that UploadType tells.
func servable(mediaType string) bool {
	switch mediaType {
	case "image/png", "image/jpeg", "image/webp", "image/gif", "image/avif", "video/mp4", "video/webm", "video/quicktime", "audio/wav", "audio/mpeg":
		return true
	}
	return false
}
