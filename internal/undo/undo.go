// Package undo takes back the steps of work that failed half-way.
package undo

import (
	"context"
	"errors"
	"time"
)

// limit bounds the time of all undoing: whoever interrupted the work waits.
const limit = 30 * time.Second

// Stack remembers how to take back what was done. The zero Stack is empty. It
// belongs to one goroutine.
type Stack struct {
	steps []func(context.Context) error
}

// Add remembers how to take back the step that was just done.
func (s *Stack) Add(step func(context.Context) error) { s.steps = append(s.steps, step) }

// OnError takes back all steps, newest first, if *err is not nil, and joins
// what fails to *err. The steps get a context of their own that outlives a
// cancelled one. It is made for defer with a named result.
func (s *Stack) OnError(err *error) {
	if *err == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for i := len(s.steps) - 1; i >= 0; i-- {
		if undoErr := s.steps[i](ctx); undoErr != nil {
			*err = errors.Join(*err, undoErr)
		}
	}
	s.steps = nil
}
