// Command man makes the manual pages of rkt from what rkt says about itself:
//
//	rkt help --format=json | go run ./dist/man -out DIR -version V
//
// It makes rkt(1) and a page for each command, with its subcommands as sections.
// The date of the pages is that of SOURCE_DATE_EPOCH, else there is none, so
// that the same sources make the same pages.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// command is a command of rkt, as `rkt help --format=json` describes it.
type command struct {
	Path     string    `json:"path"`
	Usage    string    `json:"usage"`
	Short    string    `json:"short"`
	Long     string    `json:"long"`
	Example  string    `json:"example"`
	Flags    []group   `json:"flags"`
	Commands []command `json:"commands"`
}

type group struct {
	Title string `json:"title"`
	Flags []struct {
		Name      string `json:"name"`
		Shorthand string `json:"shorthand"`
		Value     string `json:"value"`
		Default   string `json:"default"`
		Usage     string `json:"usage"`
	} `json:"flags"`
}

func main() {
	out := flag.String("out", "", "folder to write the pages to")
	version := flag.String("version", "", "version of rkt")
	flag.Parse()
	if err := makePages(os.Stdin, *out, *version, os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		fmt.Fprintf(os.Stderr, "man: error: %v\n", err)
		os.Exit(1)
	}
}

// makePages writes the pages into the folder out, which it makes.
func makePages(in io.Reader, out, version, epoch string) error {
	var root command
	d := json.NewDecoder(in)
	d.DisallowUnknownFields() // what this program does not know would get lost
	if err := d.Decode(&root); err != nil {
		return fmt.Errorf("read description: %w", err)
	}
	date := ""
	if epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		date = time.Unix(seconds, 0).UTC().Format(time.DateOnly)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, c := range append([]command{root}, root.Commands...) {
		p := &page{name: strings.ReplaceAll(c.Path, " ", "-"), date: date, version: version}
		p.write(root, c)
		if err := os.WriteFile(filepath.Join(out, p.name+".1"), []byte(p.text.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
