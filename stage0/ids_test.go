package stage0

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func TestIDRangesAreNeverGivenTwice(t *testing.T) {
	env := &Env{RunDir: t.TempDir()}
	var mu sync.Mutex
	seen := make(map[uint32]string)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			uuid := "pod-" + strconv.Itoa(i)
			ids, claim, err := env.claimIDs(t.Context(), uuid)
			if err != nil {
				t.Error(err)
				return
			}
			if b, err := os.ReadFile(claim); err != nil || strings.TrimSpace(string(b)) != uuid {
				t.Errorf("claim = %q, %v, want %q", b, err, uuid)
			}
			mu.Lock()
			defer mu.Unlock()
			first := ids[0].Outside
			if other, taken := seen[first]; taken {
				t.Errorf("%s and %s have the range %d", other, uuid, first)
			}
			if first < firstID || (first-firstID)%65536 != 0 || ids[0].Count != 65536 || ids[0].Inside != 0 {
				t.Errorf("map = %+v", ids)
			}
			seen[first] = uuid
		})
	}
	wg.Wait()
}

func TestIDRangeIsFreeWithoutItsClaim(t *testing.T) {
	env := &Env{RunDir: t.TempDir()}
	first, claim, err := env.claimIDs(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	if second, _, err := env.claimIDs(t.Context(), "two"); err != nil || second[0].Outside == first[0].Outside {
		t.Errorf("second range = %+v, %v, want another than %+v", second, err, first)
	}
	if err := os.Remove(claim); err != nil {
		t.Fatal(err)
	}
	if third, _, err := env.claimIDs(t.Context(), "three"); err != nil || third[0].Outside != first[0].Outside {
		t.Errorf("range after release = %+v, %v, want %+v", third, err, first)
	}
}

// A claim without bytes is what is left of an rkt that was killed while it held
// the lock: the lock is free, so nobody is writing it.
func TestEmptyClaimIsNobodys(t *testing.T) {
	env := &Env{RunDir: t.TempDir()}
	ids, claim, err := env.claimIDs(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(claim, 0); err != nil {
		t.Fatal(err)
	}
	if again, _, err := env.claimIDs(t.Context(), "two"); err != nil || again[0].Outside != ids[0].Outside {
		t.Errorf("range = %+v, %v, want %+v", again, err, ids)
	}
}

func TestSubordinateIDsAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "subuid")
	text := "alice:100000:65536\nbob:524288:65536\n# comment\nbroken\nbob:x:1\ncarol:655000:10\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	taken, err := subordinate(file, filepath.Join(dir, "missing"))
	if err != nil {
		t.Fatal(err)
	}
	if len(taken) != 3 {
		t.Fatalf("ranges = %v, want 3", taken)
	}
	// bob has the first, carol is in the second.
	got, err := freeRange(t.TempDir(), taken)
	if err != nil || got != firstID+2*65536 {
		t.Errorf("freeRange() = %d, %v, want %d", got, err, firstID+2*65536)
	}
	if _, err := freeRange(t.TempDir(), []idRange{{0, 1 << 32}}); err != ErrNoIDs {
		t.Errorf("freeRange() with everything taken = %v, want ErrNoIDs", err)
	}
}
