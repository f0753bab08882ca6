package main

import (
	"fmt"
	"strings"
)

// page is a manual page in the language of man(7).
type page struct {
	name, date, version string
	text                strings.Builder
}

// write writes the page of c: rkt itself, or one of its commands.
func (p *page) write(root, c command) {
	p.line(`.\" Made by dist/man from "rkt help"; do not edit.`)
	p.line(fmt.Sprintf(`.TH %q 1 %q %q "User Commands"`, literal(strings.ToUpper(p.name)), p.date, strings.TrimSpace("rkt "+p.version)))
	p.section("Name")
	p.line(literal(p.name) + ` \- ` + prose(lowerFirst(c.Short)))
	p.section("Synopsis")
	p.synopsis(c)
	p.section("Description")
	p.blocks(c.long())
	p.flags(c, ".SS")
	if c.Path == root.Path {
		p.commandList(c)
	} else {
		p.subcommands(c)
	}
	if c.Example != "" {
		p.section("Examples")
		p.verbatim(c.Example)
	}
	p.exitStatus()
	p.seeAlso(root, c)
}

// long is the description, which for a small command is its summary.
func (c *command) long() string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short + "."
}

func (p *page) line(s string)       { p.text.WriteString(s + "\n") }
func (p *page) section(name string) { p.line(".SH " + strings.ToUpper(name)) }

// synopsis writes how c is called; a command of commands is not called itself.
func (p *page) synopsis(c command) {
	usages := []string{c.Usage}
	if len(c.Commands) > 0 {
		usages = nil
		for _, sub := range c.Commands {
			usages = append(usages, sub.Usage)
		}
	}
	if c.Path == "rkt" {
		usages = []string{"rkt [global flags] COMMAND ..."}
	}
	p.line(".nf")
	for _, u := range usages {
		words := strings.SplitN(u, " ", 2)
		p.line(`\fB` + literal(words[0]) + `\fR ` + literal(strings.Join(words[1:], " ")))
	}
	p.line(".fi")
}

// flags writes the options of c, each group under a heading of its own.
func (p *page) flags(c command, heading string) {
	for i, g := range c.Flags {
		if i == 0 && heading == ".SS" {
			p.section("Options")
		}
		if heading == ".SS" && len(c.Flags) > 1 {
			p.line(".SS " + g.Title)
		}
		for _, f := range g.Flags {
			name := `\fB\-\-` + literal(f.Name) + `\fR`
			if f.Shorthand != "" {
				name = `\fB\-` + f.Shorthand + `\fR, ` + name
			}
			if word := valueWord(f.Value); word != "" {
				name += `=\fI` + word + `\fR`
			}
			p.line(".TP")
			p.line(name)
			text := f.Usage
			if f.Default != "" {
				text += fmt.Sprintf(" (default %s)", f.Default)
			}
			p.line(prose(text))
		}
	}
}

// valueWord is the word for the value of a flag, from the name of its type.
func valueWord(kind string) string {
	switch kind {
	case "":
		return ""
	case "stringArray", "string":
		return "TEXT"
	case "uints", "strings":
		return "LIST"
	case "int", "uint":
		return "NUMBER"
	}
	return strings.ToUpper(literal(kind))
}

// commandList names the commands of rkt.
func (p *page) commandList(c command) {
	p.section("Commands")
	for _, sub := range c.Commands {
		p.line(".TP")
		p.line(reference(sub.Path))
		p.line(prose(sub.Short + "."))
	}
}

// subcommands writes all of each command below c.
func (p *page) subcommands(c command) {
	if len(c.Commands) > 0 {
		p.section("Commands")
	}
	for _, sub := range c.Commands {
		p.line(".SS " + literal(sub.Usage))
		p.blocks(sub.long())
		p.flags(sub, "")
		if sub.Example != "" {
			p.line(".PP")
			p.verbatim(sub.Example)
		}
	}
}

func (p *page) exitStatus() {
	p.section("Exit status")
	p.line(".TP\n0\nSuccess.")
	p.line(".TP\n125\nrkt failed. One line on standard error says what, and often a second one what to do about it.")
	if p.name == "rkt" || p.name == "rkt-run" || p.name == "rkt-run-prepared" || p.name == "rkt-enter" {
		p.line(".TP\n126\nThe command of the app cannot be executed.")
		p.line(".TP\n127\nThe command of the app was not found.")
		p.line(".TP\n128+n\nSignal n ended the app.")
		p.line(".TP\nany other\nThat of the app.")
	}
}

func (p *page) seeAlso(root, c command) {
	p.section("See also")
	var names []string
	if c.Path != root.Path {
		names = append(names, reference(root.Path))
	}
	for _, sub := range root.Commands {
		if sub.Path != c.Path {
			names = append(names, reference(sub.Path))
		}
	}
	p.line(strings.Join(names, ",\n"))
}

// reference is the name of the page of a command.
func reference(path string) string {
	return `\fB` + literal(strings.ReplaceAll(path, " ", "-")) + `\fR(1)`
}

// blocks writes paragraphs; indented lines stay as they are.
func (p *page) blocks(text string) {
	for _, block := range strings.Split(strings.TrimSpace(text), "\n\n") {
		p.line(".PP")
		lines := strings.Split(block, "\n")
		for len(lines) > 0 {
			n := 0
			for n < len(lines) && strings.HasPrefix(lines[n], "  ") {
				n++
			}
			if n > 0 {
				p.verbatim(strings.Join(lines[:n], "\n"))
				lines = lines[n:]
				continue
			}
			p.line(prose(lines[0]))
			lines = lines[1:]
		}
	}
}

// verbatim writes lines as they are, without the indentation that all have.
func (p *page) verbatim(text string) {
	p.line(".RS 4\n.nf")
	for _, l := range strings.Split(text, "\n") {
		p.line(protect(literal(strings.TrimPrefix(l, "  "))))
	}
	p.line(".fi\n.RE")
}

// prose is text to be filled; a flag in it is still one that can be copied.
func prose(s string) string {
	words := strings.Split(s, " ")
	for i, w := range words {
		if strings.HasPrefix(strings.TrimLeft(w, `"(`), "-") {
			words[i] = literal(w)
		} else {
			words[i] = strings.ReplaceAll(w, `\`, `\e`)
		}
	}
	return protect(strings.Join(words, " "))
}

// literal is text that can be copied from a terminal: its dashes are minus signs.
func literal(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\e`), "-", `\-`)
}

// protect keeps a line from being taken for a request.
func protect(s string) string {
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		return `\&` + s
	}
	return s
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
