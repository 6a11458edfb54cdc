// Package engine is the seam between workerd and whatever makes pictures and videos. An [Engine] turns one claimed
// task into files. It knows nothing of the database, of leases or of storage: workerd fetches the inputs before, and
// stores the outputs after, so an engine sees local paths only.
//
// Package enginetest holds the suite that every engine must pass.
package engine

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"
)

// MaxOutputBytes is the largest file that an engine may make: 4 GiB. Larger ones are not stored.
const MaxOutputBytes = 4 << 30

// Engine runs tasks. Its methods may be called from several goroutines at once.
type Engine interface {
	// Info says what the engine is and can do. It is constant.
	Info() Info
	// Health returns nil when the engine could run a task now, else an [*Error] of class [EngineDown].
	Health(ctx context.Context) error
	// Run does one task and returns when all its work has ended, also within one second of the end of ctx, when the
	// slot must be free again. Every failure is, or wraps, an [*Error]; see [ClassOf]. Params are data: nothing
	// in them may reach a shell or a template. A task may be run again after any failure, in an empty OutDir.
	Run(ctx context.Context, task Task, sink Sink) (Result, error)
}

// Info describes an engine, as advertised when claiming.
type Info struct {
	Name        string   // stable, such as "media"
	TaskTypes   []string // task types it can run, sorted
	Device      string   // such as "cpu" or "cuda:0"
	Slots       int      // how many tasks it runs well at the same time, at least 1
	Models      []string // names of the models it works with, may be empty
	MemoryBytes int64    // memory of the device, 0 when unknown
}

// Task is one claimed task.
type Task struct {
	ID      uuid.UUID
	Attempt int             // from 1: which try of the task this is, the fence of the database
	Type    string          // one of [Info.TaskTypes]
	Params  json.RawMessage // a JSON object, as its creator gave it
	Inputs  []Input         // in the order of the task
	OutDir  string          // an empty folder, the only place to write to
}

// Input is one local file that workerd has fetched for the task.
type Input struct {
	Path      string
	MediaType string // as claimed by its source; not to be trusted
	Role      Role
}

// File is one local file that an engine has made.
type File struct {
	Path      string // inside OutDir
	MediaType string // such as "video/mp4"
	Role      Role
}

// Role says what a file is to its task.
type Role string

// Roles of inputs and outputs.
const (
	StartImage Role = "start_image" // input: the first frame of a travel
	EndImage   Role = "end_image"   // input: the last frame of a travel
	Segment    Role = "segment"     // input: a clip to stitch, in order
	Output     Role = "output"      // output: the result, exactly one
	Thumbnail  Role = "thumbnail"   // output: a JPEG poster of the result, at most one
)

// Result is what a successful run made.
type Result struct {
	Files    []File         // one [Output], at most one [Thumbnail]
	Metadata map[string]any // facts about the output that can be written as JSON, such as "frames"
}

// File returns the file of the given role.
func (r Result) File(role Role) (File, bool) {
	for _, file := range r.Files {
		if file.Role == role {
			return file, true
		}
	}
	return File{}, false
}

// Sink takes what a run tells while it works. Its methods return at once and may be called until Run returns.
type Sink interface {
	Progress(progress Progress)
	// Preview shows an unfinished result. The sink owns data from here on.
	Preview(data []byte, mediaType string)
	// Log takes one line for the operator, not for the owner of the task.
	Log(line string)
}

// Progress says how far a run is. Within one run Value never falls, and it ends at Max.
type Progress struct {
	Value float64 // done so far, such as frames
	Max   float64 // all there is to do, above 0; may be corrected while running, but never below Value
	Phase string  // one lower-case word or two for people, such as "encoding"
}
