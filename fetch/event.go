package fetch

import "rkt/cas"

// Event tells what a Fetcher does. It is one of the types below. Text in it that
// comes from an image or a registry is as it came: escape it for a terminal.
// Events of one fetch come one after the other, never two at once.
type Event interface{ event() }

// Started is the first event of a fetch that is more than a look into the store.
type Started struct{ Reference string }

// Waiting says that another process fetches the same; this one waits for it.
type Waiting struct {
	Reference string
	PID       int // 0 = unknown
}

// Resolved says what the reference means. Nothing of it is brought yet.
type Resolved struct {
	Reference string
	ID        cas.Digest // of the config
	Manifest  cas.Digest
	Layers    []LayerInfo
}

// LayerInfo is one layer of an image, bottom first.
type LayerInfo struct {
	DiffID  cas.Digest
	Size    int64 // bytes to bring
	Present bool  // it is in the store already
}

// Progress says how much of a layer has come.
type Progress struct {
	Layer        int
	Bytes, Total int64
}

// Stored says that a layer is verified and in the store.
type Stored struct {
	Layer  int
	DiffID cas.Digest
}

// Note is something the user should know although it is not an error.
type Note struct{ Text string }

// Ready is the last event of a fetch that succeeded.
type Ready struct {
	Reference string
	ID        cas.Digest
	Manifest  cas.Digest
}

func (Started) event()  {}
func (Waiting) event()  {}
func (Resolved) event() {}
func (Progress) event() {}
func (Stored) event()   {}
func (Note) event()     {}
func (Ready) event()    {}
