package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/runtime"
)

// imagesOptions are the flags of images.
type imagesOptions struct {
	quiet  bool
	format string
}

func newImages(a *app) *cobra.Command {
	var o imagesOptions
	cmd := &cobra.Command{
		Use:               "images [OPTIONS] [SERVICE...]",
		Short:             "List images used by the created containers",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.images(cmd.Context(), args, o)
		},
	}
	cmd.Flags().StringVar(&o.format, "format", "table", "Format the output. Values: [table | json]")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "Only display IDs")
	return cmd
}

// imageRow is what images tells of a container's image.
type imageRow struct {
	ID            string
	ContainerName string
	Repository    string
	Tag           string
	Platform      string
	Size          int64
	Created       *time.Time `json:",omitempty"`
}

// images lists the images that the stack's containers were created from.
func (a *app) images(ctx context.Context, services []string, o imagesOptions) error {
	if err := checkFormat(o.format); err != nil {
		return err
	}
	t, err := a.resolve(ctx, services...)
	if err != nil {
		return err
	}
	list, err := a.containers(ctx, t, services, withOneOffs)
	if err != nil {
		return err
	}
	known, err := a.imagesByID(ctx, list)
	if err != nil {
		return err
	}
	rows := make([]imageRow, len(list))
	for i := range list {
		img := known[list[i].ImageID]
		rows[i] = newImageRow(&list[i], &img)
	}
	slices.SortFunc(rows, func(a, b imageRow) int { return strings.Compare(a.ContainerName, b.ContainerName) })
	if o.quiet {
		var ids []string
		for i := range rows {
			_, id, found := strings.Cut(rows[i].ID, ":")
			if !found {
				id = rows[i].ID
			}
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
		return printLines(a.env.Out, ids, sanitize)
	}
	return imageListing(time.Now()).print(a.env.Out, o.format, rows)
}

func imageListing(now time.Time) *listing[imageRow] {
	return &listing[imageRow]{
		Columns: []column[imageRow]{
			{"CONTAINER", func(r imageRow) string { return r.ContainerName }},
			{"REPOSITORY", func(r imageRow) string { return cmp.Or(r.Repository, "<none>") }},
			{"TAG", func(r imageRow) string { return cmp.Or(r.Tag, "<none>") }},
			{"PLATFORM", func(r imageRow) string { return r.Platform }},
			{"IMAGE ID", func(r imageRow) string { return shortID(r.ID) }},
			{"SIZE", func(r imageRow) string { return units.HumanSizeWithPrecision(float64(r.Size), 3) }},
			{"CREATED", func(r imageRow) string {
				if r.Created == nil {
					return "N/A"
				}
				return ago(*r.Created, now)
			}},
		},
		Array: true,
	}
}

// imagesByID asks for each image once; one that has been removed has no entry.
func (a *app) imagesByID(ctx context.Context, list []runtime.Container) (map[string]runtime.Image, error) {
	var ids []string
	for i := range list {
		if id := list[i].ImageID; id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	var mu sync.Mutex
	known := make(map[string]runtime.Image, len(ids))
	err := inParallel(ctx, 8, ids, func(ctx context.Context, id string) error {
		img, err := a.engine.Image(ctx, id)
		if runtime.IsNotFound(err) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		known[id] = img
		return err
	})
	return known, err
}

func newImageRow(c *runtime.Container, img *runtime.Image) imageRow {
	r := imageRow{ID: c.ImageID, ContainerName: c.Name, Platform: cmp.Or(img.Platform, platformOf(img)), Size: img.Size}
	ref := c.Image
	if strings.HasPrefix(ref, "sha256:") || ref != "" && strings.HasPrefix(strings.TrimPrefix(c.ImageID, "sha256:"), ref) {
		ref = "" // created from an ID
		if len(img.Tags) > 0 {
			ref = img.Tags[0]
		}
	}
	r.Repository, r.Tag = splitReference(ref)
	if !img.Created.IsZero() {
		created := img.Created
		r.Created = &created
	}
	return r
}

func platformOf(img *runtime.Image) string {
	if img.OS == "" {
		return ""
	}
	p := fmt.Sprintf("%s/%s", img.OS, img.Arch)
	if img.Variant != "" {
		p += "/" + img.Variant
	}
	return p
}

// splitReference takes an image's name apart as Docker shows it: docker.io and
// library are left out, and a name without a tag means latest.
func splitReference(ref string) (repository, tag string) {
	if ref == "" {
		return "", ""
	}
	ref, _, pinned := strings.Cut(ref, "@")
	repository = ref
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		repository, tag = ref[:i], ref[i+1:]
	} else if !pinned {
		tag = "latest"
	}
	repository = strings.TrimPrefix(repository, "docker.io/")
	return strings.TrimPrefix(repository, "library/"), tag
}
