package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

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

// eachPod calls work for each of the pods that the words name. One that fails
// hides no other: it is told at once, and counted in the error.
func (e *environment) eachPod(verb string, words []string, work func(*pod.Pod) error) error {
	var errs []error
	for _, word := range words {
		err := e.withPod(word, work)
		if err == nil {
			continue
		}
		if len(words) == 1 {
			return fmt.Errorf("%s: %w", verb, err)
		}
		fmt.Fprintf(e.stderr, "rkt: %s %q: %s\n", verb, escape.Text(word), escape.Text(err.Error()))
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return fmt.Errorf("%s: %d of %d pods failed", verb, len(errs), len(words))
	}
	return nil
}

func (e *environment) withPod(word string, work func(*pod.Pod) error) error {
	p, err := e.findPod(word)
	if err != nil {
		return err
	}
	defer p.Close()
	return work(p)
}
