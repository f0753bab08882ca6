package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rkt/internal/escape"
	"rkt/stage0/quadlet"
	"rkt/stage0/quadlet/generator"
)

// check tells what is wrong with files.
func check(host quadlet.Host, settings string, args []string) error {
	r, err := compile(host, settings, args)
	if err != nil {
		return err
	}
	for _, u := range r.Units {
		fmt.Printf("%s: %s\n", escape.Text(u.Source), u.Name)
	}
	return mistakes(r)
}

// show prints the units.
func show(host quadlet.Host, settings, format string, args []string) error {
	r, err := compile(host, settings, args)
	if err != nil {
		return err
	}
	if format != "" {
		return errors.Join(showJSON(r, format == "json-pretty"), mistakes(r))
	}
	var b bytes.Buffer
	for i, u := range r.Units {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "# %s\n", u.Name)
		for line := range strings.Lines(u.Text) {
			b.WriteString(escape.Text(strings.TrimSuffix(line, "\n")) + "\n")
		}
	}
	for i, l := range r.Links {
		if i == 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "# %s -> %s\n", l.Name, l.Target)
	}
	_, err = os.Stdout.Write(b.Bytes())
	return errors.Join(err, mistakes(r))
}

func showJSON(r quadlet.Result, pretty bool) error {
	out := struct {
		Units  []quadlet.Unit   `json:"units"`
		Links  []quadlet.Link   `json:"links"`
		Errors []*quadlet.Error `json:"errors"`
	}{nonNil(r.Units), nonNil(r.Links), nonNil(r.Errors)}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if pretty {
		e.SetIndent("", "  ")
	}
	if err := e.Encode(out); err != nil {
		return fmt.Errorf("encode units: %w", err)
	}
	_, err := os.Stdout.Write(escape.JSON(b.Bytes()))
	return err
}

func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// mistakes tells what is wrong.
func mistakes(r quadlet.Result) error {
	files := make(map[string]bool)
	for _, e := range r.Errors {
		files[e.Path] = true
		fmt.Fprintln(os.Stderr, escape.Text(e.Error()))
	}
	if len(files) == 0 {
		return nil
	}
	return fmt.Errorf("mistakes: %d, in files: %d", len(r.Errors), len(files))
}

// compile makes units of what the arguments name, in memory.
func compile(host quadlet.Host, settings string, args []string) (quadlet.Result, error) {
	dirs, wanted, errs, err := folders(settings, args)
	if err != nil {
		return quadlet.Result{}, err
	}
	sources, loadErrs := generator.Load(dirs)
	r := quadlet.Compile(sources, host)
	r.Errors = slices.Concat(errs, loadErrs, r.Errors)
	if len(wanted) == 0 {
		return r, nil
	}
	r.Units = slices.DeleteFunc(r.Units, func(u quadlet.Unit) bool { return !wanted.has(u.Name, u.Source) })
	r.Links = slices.DeleteFunc(r.Links, func(l quadlet.Link) bool { return !wanted.has(filepath.Base(l.Target), l.Source) })
	r.Errors = slices.DeleteFunc(r.Errors, func(e *quadlet.Error) bool { return !wanted.has("", e.Path) && !strings.HasSuffix(e.Path, ".conf") })
	if len(r.Units) == 0 && len(r.Errors) == 0 {
		return r, fmt.Errorf("nothing is made of %s", escape.Text(strings.Join(args, " ")))
	}
	return r, nil
}

// selection is what of many units somebody wants to see: those of some files,
// by their paths or names, and some by their own names.
type selection map[string]bool

func (s selection) has(unit, source string) bool {
	if s[unit] || s[source] || s[filepath.Base(source)] {
		return true
	}
	for dir := filepath.Dir(source); ; dir = filepath.Dir(dir) {
		if s["dir:"+dir] {
			return true
		}
		if dir == "/" || dir == "." {
			return false
		}
	}
}

// folders are those to look into. A file may need others in its folder.
func folders(settings string, args []string) (dirs []string, wanted selection, errs []*quadlet.Error, err error) {
	wanted = make(selection)
	named := len(args) == 0
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil && !strings.ContainsRune(arg, '/') {
			wanted[arg], named = true, true
			continue
		}
		path, absErr := filepath.Abs(arg)
		if err := errors.Join(err, absErr); err != nil {
			return nil, nil, nil, err
		}
		if info.IsDir() {
			dirs, wanted["dir:"+path] = append(dirs, path), true
			continue
		}
		if _, ok := quadlet.KindOf(filepath.Base(path)); !ok {
			return nil, nil, nil, fmt.Errorf("%q does not end in .container, .pod, .volume, .network, .image or .kube", arg)
		}
		dirs, wanted[path] = append(dirs, filepath.Dir(path)), true
	}
	if named {
		more, settingsErrs := generator.Folders(settings)
		dirs, errs = append(dirs, more...), settingsErrs
	}
	return dirs, wanted, errs, nil
}
