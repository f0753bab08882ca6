package generator

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"rkt/internal/escape"
	"rkt/stage0/quadlet"
)

// Name is the name under which systemd starts the generator.
const Name = "rkt-system-generator"

// Settings is the file of settings.
const Settings = "/etc/rkt/quadlet.conf"

// foldersVariable replaces the folders, for trying things out.
const foldersVariable = "RKT_QUADLET_DIRS"

// Main is the generator. args are what systemd gives it: the folder for units
// and two more that rkt has nothing for. It returns the exit status: 1 if
// anything is wrong, which systemd notes and goes on with what was written.
func Main(args []string, host quadlet.Host, getenv func(string) string) int {
	if getenv("SYSTEMD_SCOPE") == "user" || getenv("SYSTEMD_IN_INITRD") == "1" {
		return 0 // rkt runs pods as root, on the real system
	}
	log := newLog()
	if len(args) != 1 && len(args) != 3 || !filepath.IsAbs(args[0]) {
		log.line("want the absolute path of the folder for units as argument")
		return 1
	}
	errs := generate(args[0], host, getenv(foldersVariable))
	for _, e := range errs {
		log.line(e.Error())
	}
	if len(errs) > 0 {
		return 1
	}
	return 0
}

func generate(dir string, host quadlet.Host, folders string) []*quadlet.Error {
	var dirs []string
	var errs []*quadlet.Error
	if folders != "" {
		dirs = filepath.SplitList(folders)
	} else {
		dirs, errs = Folders(Settings)
	}
	sources, loadErrs := Load(dirs)
	result := quadlet.Compile(sources, host)
	errs = append(append(errs, loadErrs...), result.Errors...)
	return append(errs, Write(dir, result)...)
}

// log writes to the kernel's log, where the journal finds it: when generators
// run there may be nothing else. Each line is one write.
type log struct{ to io.Writer }

// maxLine is what the kernel takes in one line, less what comes before it.
const maxLine = 900

func newLog() log {
	if f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY|os.O_APPEND, 0); err == nil {
		return log{io.MultiWriter(kmsg{f}, os.Stderr)}
	}
	return log{os.Stderr}
}

func (l log) line(text string) {
	text = escape.Text(text)
	if len(text) > maxLine {
		text = strings.ToValidUTF8(text[:maxLine], "") + "..."
	}
	fmt.Fprintf(l.to, "%s[%d]: %s\n", Name, os.Getpid(), text)
}

// kmsg gives lines the priority of an error. That the kernel drops some when
// there are many is no reason to fail.
type kmsg struct{ f *os.File }

func (k kmsg) Write(b []byte) (int, error) {
	k.f.WriteString("<3>" + string(b))
	return len(b), nil
}
