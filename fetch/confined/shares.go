package confined

import (
	"context"
	"sync"
)

// shares is memory that the readers of layers reserve before they use it.
type shares struct {
	mu          sync.Mutex
	freed       chan struct{} // closed and made anew when some is given back
	used, limit int64
}

func newShares(limit int64) *shares { return &shares{freed: make(chan struct{}), limit: limit} }

// acquire waits until n bytes are free, or all if n is more than there are, and
// returns how many it has reserved.
func (s *shares) acquire(ctx context.Context, n int64) (int64, error) {
	n = min(n, s.limit)
	for {
		s.mu.Lock()
		freed := s.freed
		if s.used+n <= s.limit {
			s.used += n
			s.mu.Unlock()
			return n, nil
		}
		s.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func (s *shares) release(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
	close(s.freed)
	s.freed = make(chan struct{})
}
