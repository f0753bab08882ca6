package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// The grammar of `rkt run` and `rkt prepare`:
//
//	[pod flags] IMAGE [app flags] [-- args...] [--- IMAGE ...]
//
// Flags before the first image are the pod's, flags after an image are that
// image's. "--" begins the arguments of the image's command, which may be
// anything but a lone "---", which ends them.
const (
	argsBegin = "--"
	argsEnd   = "---"
)

// parseCommandLine parses the arguments of verb into podFlags and, for each
// image, into the flags of a new app.
func parseCommandLine(verb string, podFlags *pflag.FlagSet, args []string) ([]*appOptions, error) {
	p := &lineParser{verb: verb, pod: podFlags}
	rest, err := p.flags(podFlags, args, nil)
	if err != nil {
		return nil, err
	}
	if podFlags.ArgsLenAtDash() == 0 {
		return nil, p.usage("an image is required before any arguments")
	}
	var apps []*appOptions
	for len(rest) > 0 {
		var app *appOptions
		if app, rest, err = p.app(rest); err != nil {
			return nil, err
		}
		apps = append(apps, app)
	}
	if len(apps) == 0 {
		return nil, p.usage("an image is required")
	}
	return apps, nil
}

// lineParser parses one command line.
type lineParser struct {
	verb string
	pod  *pflag.FlagSet
}

func (p *lineParser) usage(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...), help: "rkt " + p.verb + " --help"}
}

// app parses one image with its flags and arguments; rest begins with the next.
func (p *lineParser) app(args []string) (app *appOptions, rest []string, err error) {
	image := args[0]
	switch {
	case image == argsBegin:
		return nil, nil, p.usage("only one set of arguments is allowed per image")
	case image == argsEnd:
		return nil, nil, p.usage("an image is required before %s", argsEnd)
	case strings.HasPrefix(image, "-") && image != "-": // "-" is stdin
		return nil, nil, p.usage("an image is required before the flag %s", image)
	case image == "":
		return nil, nil, p.usage("the name of an image is empty")
	}
	app = &appOptions{image: image}
	flags := pflag.NewFlagSet(image, pflag.ContinueOnError)
	app.flags(flags)

	// A "---" without arguments before it separates images as well.
	mine, next := args[1:], []string(nil)
	if end := slices.Index(mine, argsEnd); end >= 0 {
		mine, next = mine[:end], mine[end+1:]
		if len(next) == 0 {
			return nil, nil, p.usage("an image is required after %s", argsEnd)
		}
	}
	left, err := p.flags(flags, mine, p.pod)
	if err != nil {
		return nil, nil, err
	}
	if flags.ArgsLenAtDash() == 0 {
		app.args = left
		return app, next, nil
	}
	if len(left) > 0 {
		// It might be taken for another image; other programs take it for the command.
		return nil, nil, p.usage("%q after the image %q: %s begins the arguments of its command, %s another image", left[0], image, argsBegin, argsEnd)
	}
	return app, next, nil
}

// flags parses the flags that args begin with and returns the rest. An unknown
// one that other knows stands in the wrong place.
func (p *lineParser) flags(set *pflag.FlagSet, args []string, other *pflag.FlagSet) ([]string, error) {
	set.SetInterspersed(false)
	set.Usage = func() {} // the command prints the help text
	seen := make(map[string]bool)
	err := set.ParseAll(args, func(f *pflag.Flag, value string) error {
		if _, repeats := f.Value.(pflag.SliceValue); seen[f.Name] && !repeats {
			return fmt.Errorf("%s is given more than once for the same image or pod", dashed(f.Name))
		}
		seen[f.Name] = true
		return set.Set(f.Name, value)
	})
	if err == nil {
		return set.Args(), nil
	}
	if errors.Is(err, pflag.ErrHelp) {
		return nil, err
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return nil, p.usage("%v", err)
	}
	name := unknown.GetSpecifiedName()
	if name == "i" || name == "t" || name == "tty" { // what other programs call it
		return nil, p.usage("unknown flag %s; --interactive before the first image gives the app a terminal", dashed(name))
	}
	if other == nil { // in front of the images
		other = pflag.NewFlagSet("", pflag.ContinueOnError)
		(&appOptions{}).flags(other)
		if known(other, name) {
			return nil, p.usage("%s must follow an image", dashed(name))
		}
		return nil, p.usage("%v", err)
	}
	if known(other, name) {
		return nil, p.usage("%s must come before the first image", dashed(name))
	}
	return nil, p.usage("image %q: %v", set.Name(), err) // which may have been meant as an argument
}

// known says whether set has a flag of that name or shorthand.
func known(set *pflag.FlagSet, name string) bool {
	return set.Lookup(name) != nil || len(name) == 1 && set.ShorthandLookup(name) != nil
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}
