package rootfs

import (
	"cmp"
	"os"
	"slices"
	"sync"
	"time"

	"rkt/cas"
)

// reportEvery bounds how often somebody is told how much is hashed.
const reportEvery = 100 * time.Millisecond

// meter counts the bytes that layers are hashed through, for whoever waits.
// A nil one counts nothing.
type meter struct {
	tell  func(done, total int64)
	total int64

	mu   sync.Mutex
	done int64
	last time.Time // of a report, or of the beginning
	told bool
}

// newMeter begins to count. What is over before reportEvery is not told.
func newMeter(tell func(done, total int64), total int64) *meter {
	return &meter{tell: tell, total: total, last: time.Now()}
}

// add counts n more bytes.
func (m *meter) add(n int64) {
	if m == nil || m.tell == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done = min(m.done+n, m.total)
	if now := time.Now(); now.Sub(m.last) >= reportEvery {
		m.last, m.told = now, true
		m.tell(m.done, m.total)
	}
}

// end tells that it is over, if anything was told.
func (m *meter) end() {
	if m.told {
		m.tell(m.total, m.total)
	}
}

// bySize orders layers by the size of their tars, the largest first: begun
// last, it would be waited for alone. It returns their sum as well.
func (l *Layers) bySize(layers []cas.Digest) (ordered []cas.Digest, total int64) {
	sizes := make(map[cas.Digest]int64, len(layers))
	for _, d := range layers {
		if store, ok := l.o.Stores.Find(d); ok {
			if f, size, err := store.Open(d); err == nil { // else prepare tells
				f.Close()
				sizes[d] = size
				total += size
			}
		}
	}
	ordered = slices.Clone(layers)
	slices.SortStableFunc(ordered, func(a, b cas.Digest) int { return cmp.Compare(sizes[b], sizes[a]) })
	return ordered, total
}

// sizeOf is the size of an open file, 0 when it cannot be known.
func sizeOf(f *os.File) int64 {
	st, err := f.Stat()
	if err != nil {
		return 0
	}
	return st.Size()
}
