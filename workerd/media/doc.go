// Package media does workerd's work with pictures and videos: it finds ffmpeg, probes and normalises inputs, makes
// travels, stitches clips frame by frame, and draws poster thumbnails. [Engine] offers that as the engine "media".
//
// Pictures are decoded in Go, within limits that are checked before any pixel is. Videos are decoded and encoded by
// ffmpeg, which exchanges raw frames with this package through pipes: counting and blending frames is done here,
// so that lengths are exact. ffmpeg reads local files and pipes only, in a format that this package has recognised by
// the file's first bytes, and no text of a user's reaches its command line.
package media
