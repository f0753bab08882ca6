// Package logs reads what the apps of pods have written, from where it went: the
// journal of the host (Journal) or files in the pod directory (Files). It shows
// nothing itself: what it finds are the bytes of apps, which can be anything.
package logs

import (
	"context"
	"time"
)

// Entry is a line that an app has written, or a part of one.
type Entry struct {
	Time   time.Time // zero = unknown
	App    string    // "" = what runs the pod
	Stream string    // stdout or stderr, "" = unknown
	// Priority is that of syslog(3): 0 to 7.
	Priority int
	Message  []byte // without the end of the line
	// Partial is true when the line goes on in the next entry of the same stream.
	Partial bool
}

// Query says which entries are wanted.
type Query struct {
	App          string    // "" = all
	Since, Until time.Time // zero = no bound
	// Lines is how many of the last entries are wanted, negative = all.
	Lines int
	// Ended, if it is not nil, makes the reader wait for further entries until it
	// returns, which it does when the pod has ended or its context has.
	Ended func(context.Context) error
}

// Sink takes entries in the order of their time. Its error ends the reading.
type Sink func(Entry) error

// defaultPriority is that of what has none: info.
const defaultPriority = 6

// wants says whether an entry is asked for.
func (q *Query) wants(e *Entry) bool {
	return (q.App == "" || q.App == e.App) &&
		(q.Since.IsZero() || !e.Time.Before(q.Since)) && (q.Until.IsZero() || !e.Time.After(q.Until))
}
