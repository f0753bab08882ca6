package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"rkt/internal/escape"
	"rkt/stage0/pod"
)

// maxUUIDFile bounds the file of --uuid-file.
const maxUUIDFile = 256

// podSelection is the flags of verbs that work on pods by UUID or name.
type podSelection struct{ uuidFile string }

func (o *podSelection) flags(fs *pflag.FlagSet) {
	fs.StringVar(&o.uuidFile, "uuid-file", "", "file with the UUID of the pod, as written by --uuid-file-save")
}

// words returns the pods that the arguments and the flag name.
func (o *podSelection) words(args []string, help string) ([]string, error) {
	if o.uuidFile != "" {
		word, err := readUUIDFile(o.uuidFile)
		if err != nil {
			return nil, err
		}
		args = append([]string{word}, args...)
	}
	if len(args) == 0 {
		return nil, &usageError{message: "expected the UUID or name of a pod", help: help}
	}
	return args, nil
}

func readUUIDFile(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read UUID: %w", err)
	}
	text := strings.TrimSpace(string(b[:min(len(b), maxUUIDFile)]))
	if _, err := pod.ParseUUID(text); err != nil {
		return "", fmt.Errorf("read UUID from %q: %w", path, err)
	}
	return text, nil
}

// findPod opens the pod that the user means by word. The caller closes it.
func (e *environment) findPod(word string) (*pod.Pod, error) {
	pods, err := e.pods()
	if err != nil {
		return nil, err
	}
	p, err := pods.Find(word)
	if errors.Is(err, pod.ErrNotFound) {
		return nil, withHint(err, "rkt list")
	}
	return p, err
}

// maxAtOnce bounds how many pods a verb works on at the same time. Stopping and
// removing is mostly waiting.
const maxAtOnce = 16

// eachPod calls work for each of the pods that the words name, several at the
// same time, and writes the UUID of each one that is done. One that fails hides
// no other: it is told at once, and counted in the error.
func (e *environment) eachPod(verb string, words []string, work func(*pod.Pod) error) error {
	if _, err := e.pods(); err != nil { // before it is shared
		return err
	}
	var mu sync.Mutex
	var errs []error
	var workers errgroup.Group
	workers.SetLimit(maxAtOnce)
	for _, word := range words {
		workers.Go(func() error {
			id, err := e.withPod(word, work)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				fmt.Fprintln(e.stdout, id)
				return nil
			case len(words) > 1:
				fmt.Fprintf(e.stderr, "rkt: %s %q: %s\n", verb, escape.Text(word), escape.Text(err.Error()))
			}
			errs = append(errs, err)
			return nil
		})
	}
	_ = workers.Wait() // the errors are in errs
	switch {
	case len(errs) == 0:
		return nil
	case len(words) == 1:
		return fmt.Errorf("%s: %w", verb, errs[0])
	}
	return fmt.Errorf("%s: %d of %d pods failed", verb, len(errs), len(words))
}

func (e *environment) withPod(word string, work func(*pod.Pod) error) (pod.UUID, error) {
	p, err := e.findPod(word)
	if err != nil {
		return pod.UUID{}, err
	}
	defer p.Close()
	return p.UUID(), work(p)
}
