package filelock

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"
)

func create(t *testing.T, path string) *Lock {
	t.Helper()
	l, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestTry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, b := create(t, path), create(t, path)
	if err := a.TryShared(); err != nil {
		t.Fatal(err)
	}
	if err := b.TryShared(); err != nil {
		t.Errorf("second TryShared() = %v", err)
	}
	if err := b.TryExclusive(); !errors.Is(err, ErrLocked) {
		t.Errorf("TryExclusive() over a shared lock = %v, want ErrLocked", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("second Close() = %v", err)
	}
	if err := a.TryExclusive(); err != nil {
		t.Errorf("TryExclusive() of the only holder = %v", err)
	}
}

func TestWaitGetsTheLockWhenItIsFree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, b := create(t, path), create(t, path)
	if err := a.TryExclusive(); err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() { got <- b.Exclusive(t.Context()) }()
	select {
	case err := <-got:
		t.Fatalf("Exclusive() = %v while the lock was held", err)
	case <-time.After(20 * time.Millisecond):
	}
	if err := a.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if err := a.TryShared(); !errors.Is(err, ErrLocked) {
		t.Errorf("TryShared() = %v, want ErrLocked", err)
	}
}

func TestCancelledWaitLeavesNoLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, b := create(t, path), create(t, path)
	if err := a.TryExclusive(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() { got <- b.Exclusive(ctx) }()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Fatalf("Exclusive() = %v, want context.Canceled", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	// Whatever the abandoned wait got is given back, so this ends.
	if err := create(t, path).Exclusive(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFolderCanBeLocked(t *testing.T) {
	dir := t.TempDir()
	var locks [2]*Lock
	for i := range locks {
		l, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		locks[i] = l
	}
	if err := locks[0].TryExclusive(); err != nil {
		t.Fatal(err)
	}
	if err := locks[1].TryShared(); !errors.Is(err, ErrLocked) {
		t.Errorf("TryShared() = %v, want ErrLocked", err)
	}
}
