package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rkt/image"
	"rkt/image/trust"
)

// imageListOptions are the flags of "rkt image list".
type imageListOptions struct {
	tableOptions
	fields string
	sort   string
	order  string
}

func (o *imageListOptions) flags(fs *pflag.FlagSet) {
	o.tableOptions.flags(fs)
	fs.StringVar(&o.fields, "fields", "id,name,size,importtime", "columns: "+strings.Join(imageFieldNames(), ", "))
	fs.StringVar(&o.sort, "sort", "importtime", "column to sort by")
	fs.StringVar(&o.order, "order", "asc", "asc or desc")
}

// imageField is a column of the table.
type imageField struct {
	header string
	cell   func(r image.Record, full bool) string
	order  func(a, b image.Record) int
}

// imageFields are the columns by their names.
func imageFields() map[string]imageField {
	return map[string]imageField{
		"id": {"ID", func(r image.Record, full bool) string { return idText(r.ID, full) },
			func(a, b image.Record) int { return cmp.Compare(a.ID.Hex(), b.ID.Hex()) }},
		"name": {"NAME", func(r image.Record, _ bool) string { return nameText(r.Reference) },
			func(a, b image.Record) int { return cmp.Compare(a.Reference, b.Reference) }},
		"size": {"SIZE", func(r image.Record, full bool) string {
			if full {
				return fmt.Sprint(r.Size)
			}
			return byteSize(r.Size)
		}, func(a, b image.Record) int { return cmp.Compare(a.Size, b.Size) }},
		"importtime": {"IMPORT TIME", func(r image.Record, full bool) string { return timeText(r.Imported, full) },
			func(a, b image.Record) int { return a.Imported.Compare(b.Imported) }},
		"platform": {"PLATFORM", func(r image.Record, _ bool) string { return r.Platform.String() },
			func(a, b image.Record) int { return cmp.Compare(a.Platform.String(), b.Platform.String()) }},
		"manifest": {"MANIFEST", func(r image.Record, full bool) string { return idText(r.Manifest, full) },
			func(a, b image.Record) int { return cmp.Compare(a.Manifest.Hex(), b.Manifest.Hex()) }},
		"trust": {"TRUST", func(r image.Record, _ bool) string { return r.Verdict.Tier() },
			func(a, b image.Record) int { return cmp.Compare(a.Verdict.Tier(), b.Verdict.Tier()) }},
		"signer": {"SIGNER", func(r image.Record, full bool) string { return signerText(r.Verdict.Signer, full) },
			func(a, b image.Record) int { return cmp.Compare(a.Verdict.Signer.String(), b.Verdict.Signer.String()) }},
		"policy": {"POLICY", func(r image.Record, full bool) string { return policyText(r.Verdict.PolicyHash, full) },
			func(a, b image.Record) int { return cmp.Compare(a.Verdict.PolicyHash, b.Verdict.PolicyHash) }},
	}
}

func imageFieldNames() []string { return slices.Sorted(maps.Keys(imageFields())) }

func newImageListCommand(env *environment) *cobra.Command {
	var o imageListOptions
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the images in the store",
		Example: "  rkt image list --sort=size --order=desc",
		Args:    exactArgs(0, "no arguments"),
		RunE:    func(*cobra.Command, []string) error { return imageList(env, o) },
	}
	o.flags(c.Flags())
	return c
}

// imageRow is an image as --format=json shows it.
type imageRow struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	Manifest   string         `json:"manifest"`
	Index      string         `json:"index,omitempty"`
	Platform   image.Platform `json:"platform"`
	Size       int64          `json:"size"`
	ImportTime time.Time      `json:"importTime"`
	Layers     []string       `json:"layers"`
	Verdict    trust.Verdict  `json:"verdict"`
}

func imageList(env *environment, o imageListOptions) error {
	columns, compare, err := o.columns()
	if err != nil {
		return err
	}
	if err := requireRoot("image list"); err != nil {
		return err
	}
	store, err := env.images()
	if err != nil {
		return err
	}
	records, listErr := store.List() // with an error, what can be read
	slices.SortStableFunc(records, compare)
	var header []string
	for _, c := range columns {
		header = append(header, c.header)
	}
	rows, cells := []imageRow{}, [][]string{}
	for _, r := range records {
		rows = append(rows, newImageRow(r))
		var line []string
		for _, c := range columns {
			line = append(line, c.cell(r, o.full))
		}
		cells = append(cells, line)
	}
	if err := o.write(env.stdout, rows, header, cells); err != nil {
		return err
	}
	if listErr != nil {
		return withHint(fmt.Errorf("list images: %w", listErr), "rkt fsck")
	}
	return nil
}

// columns returns the chosen columns and how to sort.
func (o *imageListOptions) columns() ([]imageField, func(a, b image.Record) int, error) {
	known := imageFields()
	usage := func(format string, args ...any) error {
		return &usageError{message: fmt.Sprintf(format, args...), help: "rkt image list --help"}
	}
	var columns []imageField
	for name := range strings.SplitSeq(o.fields, ",") {
		field, ok := known[name]
		if !ok {
			return nil, nil, usage("unknown column %q, known are %s", name, strings.Join(imageFieldNames(), ", "))
		}
		columns = append(columns, field)
	}
	by, ok := known[o.sort]
	if !ok {
		return nil, nil, usage("cannot sort by %q, only by %s", o.sort, strings.Join(imageFieldNames(), ", "))
	}
	switch o.order {
	case "asc":
		return columns, by.order, nil
	case "desc":
		return columns, func(a, b image.Record) int { return by.order(b, a) }, nil
	}
	return nil, nil, usage("unknown order %q, known are asc and desc", o.order)
}

func newImageRow(r image.Record) imageRow {
	row := imageRow{
		ID: r.ID.String(), Name: r.Reference, Manifest: r.Manifest.String(), Index: r.Index.String(),
		Platform: r.Platform, Size: r.Size, ImportTime: r.Imported, Layers: []string{}, Verdict: r.Verdict,
	}
	for _, d := range r.Layers {
		row.Layers = append(row.Layers, d.String())
	}
	return row
}

// idText writes a digest: 12 digits tell images of one machine apart.
func idText(d image.ID, full bool) string {
	if full {
		return d.String()
	}
	return shortID(d)
}

func shortID(d image.ID) string {
	if d.IsZero() {
		return "-"
	}
	return "sha256:" + d.Hex()[:12]
}

// signerText names who has signed an image.
func signerText(s *trust.Signer, full bool) string {
	switch {
	case s == nil:
		return "-"
	case s.Key != "" && !full:
		return "key " + s.Key[:min(12, len(s.Key))]
	}
	return s.String()
}

// policyText writes the hash of a policy.
func policyText(hash string, full bool) string {
	switch {
	case hash == "":
		return "-"
	case full:
		return hash
	}
	return hash[:min(12, len(hash))]
}

// nameText writes the name of an image, which may have none.
func nameText(reference string) string {
	if reference == "" {
		return "-"
	}
	return reference
}

func timeText(t time.Time, full bool) string {
	if full {
		return t.UTC().Format(time.RFC3339)
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
