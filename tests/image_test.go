package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// layout returns the folder of the OCI layout of a test image, made on first use.
func layout(t testing.TB, name string) string {
	t.Helper()
	cmd := exec.Command(program("tests/images"), "-cache", os.Getenv("RKT_TEST_CACHE"), name)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("make the image %s: %v: %s", name, err, stderrOf(err))
	}
	return strings.TrimSpace(string(out))
}

func stderrOf(err error) string {
	if e, ok := err.(*exec.ExitError); ok {
		return string(e.Stderr)
	}
	return ""
}

// image fetches a test image from its layout and returns its reference.
func (h *host) image(name string) string {
	h.t.Helper()
	ref := "oci:" + layout(h.t, name)
	h.must("fetch", "--pull-policy=new", ref)
	return ref
}

// write makes a file with its folders.
func write(t testing.TB, path, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}
