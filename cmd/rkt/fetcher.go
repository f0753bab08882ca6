package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/fetch"
	"rkt/fetch/registries"
	"rkt/image"
	"rkt/internal/escape"
)

// fetcher returns what brings images into the store, telling p about it.
func (e *environment) fetcher(ctx context.Context, p progress) (*fetch.Fetcher, error) {
	store, err := e.images()
	if err != nil {
		return nil, err
	}
	layers, err := e.layers()
	if err != nil {
		return nil, err
	}
	program, err := e.fetchProgram()
	if err != nil {
		return nil, err
	}
	dirs, err := e.trustDirs()
	if err != nil {
		return nil, err
	}
	seen, err := e.seen()
	if err != nil {
		return nil, err
	}
	config := registries.System(e.folders(), os.Getenv)
	config.AllowHTTP, config.SkipTLSVerify = e.insecure.http, e.insecure.tls
	o := fetch.Options{
		Store:             store,
		Layers:            layers,
		Program:           program,
		DemandConfinement: e.confine,
		TrustDirs:         dirs,
		Seen:              seen,
		Registries:        config,
		Stdin:             e.stdin,
		Platform:          e.platform.Platform,
		Insecure:          e.insecure.image,
		Progress: func(event fetch.Event) {
			p.show(event)
			if _, ok := event.(fetch.Ready); ok {
				e.step("found the image in the store")
			}
		},
	}
	if isTerminal(e.stdin) && isTerminal(e.stderr) {
		o.Ask = func(ctx context.Context, q fetch.Question) (fetch.Answer, error) {
			p.settle()
			return ask(ctx, e.stdin, e.stderr, q)
		}
	}
	return fetch.New(o), nil
}

// platformOption is the value of --platform; zero = this machine's.
type platformOption struct{ image.Platform }

// String implements pflag.Value.
func (o *platformOption) String() string {
	if o.OS == "" {
		return ""
	}
	return o.Platform.String()
}

// Type implements pflag.Value.
func (o *platformOption) Type() string { return "platform" }

// Set implements pflag.Value.
func (o *platformOption) Set(s string) (err error) {
	o.Platform, err = image.ParsePlatform(s)
	return err
}

const platformUsage = "OS/ARCHITECTURE[/VARIANT] of the image (default this machine's)"

// trustDirs are the folders of trust rules, the one to write to last.
func (e *environment) trustDirs() ([]string, error) {
	if err := e.setUp(); err != nil {
		return nil, err
	}
	var dirs []string
	for _, folder := range e.folders() {
		if folder != "" {
			dirs = append(dirs, filepath.Join(folder, "trust.d"))
		}
	}
	return dirs, nil
}

// isTerminal reports whether a stream is one.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok || f == nil {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// ask asks whether an image that no rule is about may be used.
func ask(ctx context.Context, in io.Reader, out io.Writer, q fetch.Question) (fetch.Answer, error) {
	name := escape.Text(q.Name)
	fmt.Fprintf(out, "rkt: image %s: %s\nrkt: %s is %s\n", name, escape.Text(q.Reason), escape.Text(q.Reference), q.Manifest)
	repository := "everything in the repository " + name
	switch {
	case len(q.Signers) > 0:
		for _, s := range q.Signers {
			fmt.Fprintf(out, "rkt: it is signed by %s\n", escape.Text(s.String()))
		}
		repository += " that is signed so"
	case q.Unknown != "":
		fmt.Fprintf(out, "rkt: nobody known has signed it: %s\n", escape.Text(q.Unknown))
	default:
		fmt.Fprintf(out, "rkt: it is unsigned\n")
	}
	if q.Before != "" {
		fmt.Fprintf(out, "rkt: warning: when it was first seen it was signed by %s\n", escape.Text(q.Before))
	}
	fmt.Fprintf(out, `rkt: use it?
       d  this digest
       r  %s
       h  everything of the registry %s
       n  no
`, repository, escape.Text(q.Registry))
	for {
		fmt.Fprint(out, "rkt: d, r, h or n [n]: ")
		line, err := readLine(ctx, in)
		if err != nil {
			return fetch.AnswerNo, err
		}
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "d", "digest":
			return fetch.AnswerDigest, nil
		case "r", "repository":
			return fetch.AnswerRepository, nil
		case "h", "registry":
			return fetch.AnswerRegistry, nil
		case "", "n", "no":
			return fetch.AnswerNo, nil
		}
	}
}

// readLine reads one line and nothing behind it, which may be for the app. The
// end of the input is an empty line.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	go func() { // a read of a terminal cannot be cancelled
		var line bytes.Buffer
		one := make([]byte, 1)
		for line.Len() < 1024 {
			n, err := in.Read(one)
			if n == 1 && one[0] == '\n' || err == io.EOF {
				break
			}
			if err != nil {
				done <- result{"", err}
				return
			}
			line.Write(one[:n])
		}
		done <- result{line.String(), nil}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
