package engine

import (
	"context"
	"errors"
	"fmt"
)

// Class says what to do about a failed run.
type Class string

// Classes of errors.
const (
	BadInput   Class = "bad_input"   // the task can never succeed: fail it
	EngineDown Class = "engine_down" // the engine is not able to work now: give the task back
	OutOfMem   Class = "oom"         // the machine or device ran out of memory: give the task back, to another worker
	Cancelled  Class = "cancelled"   // the caller ended ctx
	Timeout    Class = "timeout"     // the deadline of ctx passed
)

// Error is a failed run. Message is one sentence for the owner of the task, without local paths: what is wrong and what
// to do. Err, which may be nil, is the cause, for the log.
type Error struct {
	Class   Class
	Message string
	Err     error
}

// Errorf makes an [*Error] of a class with a message and no cause.
func Errorf(class Class, format string, args ...any) *Error {
	return &Error{Class: class, Message: fmt.Sprintf(format, args...)}
}

// Error returns the message and its cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns the class of an error: that of the [*Error] it wraps; [Cancelled] or [Timeout] for the errors of a
// context; [EngineDown] for everything else, since what nobody classified says nothing against the task. It returns
// "" for nil.
func ClassOf(err error) Class {
	if failure, ok := errors.AsType[*Error](err); ok {
		return failure.Class
	}
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.Canceled):
		return Cancelled
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	default:
		return EngineDown
	}
}

// MessageOf returns the sentence for the owner of the task. An error that nobody classified gives a general one, since
// its text may hold what the owner must not see.
func MessageOf(err error) string {
	if failure, ok := errors.AsType[*Error](err); ok {
		return failure.Message
	}
	switch ClassOf(err) {
	case Cancelled:
		return "The task was cancelled."
	case Timeout:
		return "The task took longer than it may."
	default:
		return "The engine failed; the operator finds the reason in the worker's log."
	}
}

// Stopped returns the [*Error] that tells why ctx ended, or nil while it has not.
func Stopped(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	return &Error{Class: ClassOf(err), Message: MessageOf(err), Err: context.Cause(ctx)}
}
