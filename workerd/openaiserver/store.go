package openaiserver

import (
	"context"
	"os"
	"slices"
	"time"

	"darkroom/workerd/engine"
)

// States of a video.
const (
	queued     = "queued"
	inProgress = "in_progress"
	completed  = "completed"
	failed     = "failed"
)

const (
	// maxKept is how many finished videos are kept; the oldest go first.
	maxKept = 100
	// maxKeptBytes is how large the files of all finished videos may be together.
	maxKeptBytes = 4 << 30
)

// video is one video as callers see it. Its fields are guarded by the server's mu; callers get copies.
type video struct {
	ID          string      `json:"id"`
	Object      string      `json:"object"`
	Status      string      `json:"status"`
	Progress    int         `json:"progress"`
	Model       string      `json:"model"`
	Prompt      string      `json:"prompt"`
	CreatedAt   int64       `json:"created_at"`
	CompletedAt *int64      `json:"completed_at"`
	ExpiresAt   *int64      `json:"expires_at"`
	Seconds     string      `json:"seconds"`
	Size        string      `json:"size"`
	RemixedFrom *string     `json:"remixed_from_video_id"`
	Error       *videoError `json:"error"`

	key    string // Idempotency-Key of its request, "" for none
	folder string
	bytes  int64
	result engine.Result
	cancel context.CancelFunc
	expiry *time.Timer // when finished
	gone   bool        // deleted while it was being made
}

type videoError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (s *Server) snapshot(v *video) video {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *v
}

// all returns the videos, oldest first.
func (s *Server) all() []video {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]video, len(s.videos))
	for i, v := range s.videos {
		list[i] = *v
	}
	return list
}

func (s *Server) find(id string) (video, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.videos {
		if v.ID == id {
			return *v, nil
		}
	}
	return video{}, noVideo(id)
}

// byKey returns the video that a request with the same Idempotency-Key has asked for, unless it failed: that may be tried again.
func (s *Server) byKey(key string) *video {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.withKey(key)
}

func (s *Server) withKey(key string) *video {
	for _, v := range s.videos {
		if key != "" && v.key == key && v.Status != failed {
			same := *v
			return &same
		}
	}
	return nil
}

// add keeps a new video, unless there is one with its key, which it returns.
func (s *Server) add(v *video) *video {
	s.mu.Lock()
	defer s.mu.Unlock()
	if earlier := s.withKey(v.key); earlier != nil {
		return earlier
	}
	s.videos = append(s.videos, v)
	return nil
}

// tell notes the progress of a video, in percent. The first means that its work has begun.
func (s *Server) tell(v *video, percent float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.Status = inProgress
	v.Progress = max(v.Progress, min(int(percent), unfinished))
}

// finish notes the end of a video, and makes room for it.
func (s *Server) finish(v *video, result engine.Result, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if v.gone || s.closed {
		_ = os.RemoveAll(v.folder)
		return
	}
	if err != nil {
		s.config.Log.Warn("a video failed", "video", v.ID, "class", string(engine.ClassOf(err)), "error", err)
		failure, ok := err.(*apiError) //nolint:errorlint // made here, and not wrapped
		if !ok {
			failure = ofEngine(err)
		}
		v.Status, v.Error = failed, &videoError{Code: failure.code, Message: failure.message}
		_ = os.RemoveAll(v.folder)
	} else {
		v.Status, v.Progress, v.result = completed, 100, result
		for _, file := range result.Files {
			if info, err := os.Stat(file.Path); err == nil {
				v.bytes += info.Size()
			}
		}
	}
	end, expires := now.Unix(), now.Add(s.config.Keep).Unix()
	v.CompletedAt, v.ExpiresAt = &end, &expires
	v.expiry = time.AfterFunc(s.config.Keep, func() { s.remove(v.ID) })
	s.makeRoom()
}

// makeRoom drops the oldest finished videos while there are too many, or too large ones; the newest stays.
func (s *Server) makeRoom() {
	for {
		var oldest *video
		count, size := 0, int64(0)
		for _, v := range s.videos {
			if v.expiry == nil {
				continue
			}
			if oldest == nil {
				oldest = v
			}
			count++
			size += v.bytes
		}
		if count <= 1 || count <= maxKept && size <= maxKeptBytes {
			return
		}
		s.drop(oldest)
	}
}

// remove forgets a video and ends its work. It says whether there was one.
func (s *Server) remove(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.videos {
		if v.ID == id {
			s.drop(v)
			return true
		}
	}
	return false
}

func (s *Server) drop(v *video) {
	s.videos = slices.DeleteFunc(s.videos, func(other *video) bool { return other == v })
	v.gone = true
	if v.expiry == nil { // its files go when its work has ended
		v.cancel()
		return
	}
	v.expiry.Stop()
	_ = os.RemoveAll(v.folder)
}
