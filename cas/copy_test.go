package cas

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// On a filesystem without leases the store takes a copy, which nobody else can
// have open.
func TestCopyWhereThereAreNoLeases(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "cas"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in, err := s.Ingest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	spooled := filepath.Join(in.Path(), "file")
	writer, err := os.Create(spooled)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if _, err := writer.WriteString("content"); err != nil {
		t.Fatal(err)
	}
	taken, err := in.take("file")
	if err != nil {
		t.Fatal(err)
	}
	open := func() *os.File {
		f, err := in.openTaken(taken, unix.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := in.copyTaken(cancelled, open(), taken); !errors.Is(err, context.Canceled) {
		t.Errorf("copyTaken() = %v, want context.Canceled", err)
	}
	if err := os.Remove(in.path(taken + ".copy")); err != nil {
		t.Fatal(err)
	}
	f, err := in.copyTaken(t.Context(), open(), taken)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := writer.WriteString(" and more"); err != nil {
		t.Fatal(err)
	}
	got, size, err := hash(t.Context(), f)
	if err != nil || got != Of([]byte("content")) || size != 7 {
		t.Errorf("the copy has %d bytes, digest %v, %v", size, got, err)
	}
	if st, err := os.Stat(in.path(taken)); err != nil || st.Mode() != 0o400 || st.Size() != 7 {
		t.Errorf("the taken file is %v, %v, want the copy", st, err)
	}
}
