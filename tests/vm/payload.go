package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// makePrograms makes a disk with the built programs, the test binaries of the
// packages and the script that runs them, in the folder dir.
func makePrograms(ctx context.Context, dir string, o options) (disk string, err error) {
	root := filepath.Join(dir, "programs")
	if err := copyInto(ctx, filepath.Join(root, "bin"), o.bin+"/."); err != nil {
		return "", err
	}
	var list strings.Builder
	for _, p := range o.packages {
		p = filepath.Clean(p)
		binary := "test-" + strings.ReplaceAll(p, "/", "-")
		fmt.Fprintf(&list, "%s %s\n", p, binary)
		if err := command(ctx, "go", "test", "-c", "-o", filepath.Join(root, "bin", binary), "./"+p); err != nil {
			return "", err
		}
		// A test runs in the folder of its package, and finds its golden files.
		sources, err := filepath.Glob(filepath.Join(p, "*.go"))
		if err != nil {
			return "", err
		}
		if golden := filepath.Join(p, "testdata"); exists(golden) {
			sources = append(sources, golden)
		}
		if err := copyInto(ctx, filepath.Join(root, "src", p), sources...); err != nil {
			return "", err
		}
	}
	run, err := files.ReadFile(script)
	if err != nil {
		return "", err
	}
	limit := int((o.timeout - bootAllowance).Seconds())
	settings := fmt.Sprintf("RUN=%s\nCOUNT=%d\nLIMIT=%d\nNOW=%d\nDRIVER=%s\nCOMMAND=%s\n", quoted(o.run), o.count, limit, time.Now().Unix(), quoted(o.driver), quoted(o.command))
	for name, content := range map[string]string{"run": string(run), "settings": settings, "tests": list.String()} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o755); err != nil {
			return "", err
		}
	}
	disk = filepath.Join(dir, "programs.disk")
	return disk, makeDisk(ctx, disk, root, "rkt-programs", "")
}

// bootAllowance is what a guest gets of its time limit to boot and to power off.
const bootAllowance = 2 * time.Minute

// makeImages returns a disk with the layouts of all test images, from the cache.
func makeImages(ctx context.Context, o options) (disk string, err error) {
	program := filepath.Join(o.bin, "tests/images")
	names, err := exec.CommandContext(ctx, program, "-list").Output()
	if err != nil {
		return "", fmt.Errorf("list images: %w", err)
	}
	out, err := exec.CommandContext(ctx, program, append([]string{"-cache", o.cache}, strings.Fields(string(names))...)...).Output()
	if err != nil {
		return "", fmt.Errorf("make images: %w", err)
	}
	layouts := strings.Fields(string(out))
	sum := sha256.Sum256([]byte(strings.Join(layouts, "\n")))
	final := filepath.Join(o.cache, "vm", "images-"+hex.EncodeToString(sum[:6]))
	return filepath.Join(final, "disk"), once(final, func(tmp string) error {
		root := filepath.Join(tmp, "root")
		defer os.RemoveAll(root)
		if err := copyInto(ctx, root, layouts...); err != nil {
			return err
		}
		return makeDisk(ctx, filepath.Join(tmp, "disk"), root, "rkt-images", "")
	})
}

// makeSeed makes the disk that cloud-init looks for from the files of a folder.
func makeSeed(ctx context.Context, dir, files string) (disk string, err error) {
	disk = filepath.Join(dir, "seed.disk")
	return disk, command(ctx, "genisoimage", "-quiet", "-volid", "CIDATA", "-joliet", "-rock", "-output", disk, files)
}

// copyInto copies files and folders into the folder dir, which it makes.
func copyInto(ctx context.Context, dir string, from ...string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return command(ctx, "cp", append([]string{"-a", "-t", dir, "--"}, from...)...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// quoted is s as one word of a shell.
func quoted(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
