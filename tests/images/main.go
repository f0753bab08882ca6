// Command images makes the real images that the tests, the demo and the
// benchmarks use, from Debian packages, as OCI image layouts.
//
//	images [-cache DIR] NAME...     prints the folder of each layout, a line each
//	images -list
//
// A layout is made once and kept in the cache under a name that changes with
// its recipe.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	cache := flag.String("cache", "/var/cache/rkt-tests", "folder that keeps what was made")
	list := flag.Bool("list", false, "print the names of the images")
	flag.Parse()
	if *list {
		for _, r := range recipes() {
			fmt.Println(r.Name)
		}
		return
	}
	for _, name := range flag.Args() {
		dir, err := build(*cache, name)
		if err != nil {
			fmt.Fprintf(os.Stderr, "images: make %s: %v\n", name, err)
			os.Exit(1)
		}
		fmt.Println(dir)
	}
}

// build makes the image name unless the cache has it, and returns the folder
// of its layout. Two builds of one image wait for each other.
func build(cache, name string) (string, error) {
	i := slices.IndexFunc(recipes(), func(r recipe) bool { return r.Name == name })
	if i < 0 {
		return "", fmt.Errorf("there is no recipe of that name")
	}
	r := recipes()[i]

	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(cache, ".lock-"+name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}

	dir := filepath.Join(cache, name+"-"+r.key())
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err == nil {
		return dir, nil
	}
	tmp := dir + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := writeLayout(r, tmp); err != nil {
		os.RemoveAll(tmp)
		return "", err
	}
	return dir, os.Rename(tmp, dir)
}

// key changes whenever the recipe or the builder's format does.
func (r recipe) key() string {
	const format = "2"
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // a recipe is plain data
	}
	sum := sha256.Sum256(append(b, format...))
	return hex.EncodeToString(sum[:6])
}

// extract writes a tar of the packages of a Debian release and what they depend
// on, extracted and not configured, to path.
func extract(suite string, packages []string, path string) error {
	if suite == "" {
		suite = codename()
	}
	cmd := exec.Command("mmdebstrap", "--quiet", "--mode=root", "--variant=extract",
		"--include="+strings.Join(packages, ","), suite, path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("mmdebstrap of %s: %w: %s", strings.Join(packages, " "), err, out)
	}
	return nil
}

// codename is the Debian release of this host, whose packages are taken.
func codename() string {
	b, err := os.ReadFile("/etc/os-release")
	if err == nil {
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
				return v
			}
		}
	}
	return "stable"
}
