package enginetest

import (
	"context"
	"slices"
	"strings"

	"github.com/berth-dev/berth/runtime"
)

func imageCases() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"ImageTagAndRemove": caseImageTag,
		"ImageInUse":        caseImageInUse,
		"ImageBuild":        caseImageBuild,
		"ImageBuildFails":   caseImageBuildFails,
		"ImageUnreachable":  caseImageUnreachable,
	}
}

// removeImage removes an image of the case at its end, whatever became of it.
func (x *fixture) removeImage(ref string) {
	x.Cleanup(func() {
		err := x.e.RemoveImage(context.WithoutCancel(x.Context()), ref, true)
		if err != nil && !runtime.IsNotFound(err) {
			x.Errorf("clean up: %v", err)
		}
	})
}

func caseImageTag(x *fixture) {
	ctx := x.Context()
	img, err := x.e.Image(ctx, x.h.Image)
	x.ok(err)
	if img.ID == "" || img.OS != "linux" || !slices.Contains(img.Tags, x.h.Image) {
		x.Fatalf("%+v", img)
	}
	byID, err := x.e.Image(ctx, img.ID)
	x.ok(err)
	equal(x, "ID by ID", byID.ID, img.ID)
	ref := x.id + ":tagged"
	_, err = x.e.Image(ctx, ref)
	x.refused(err, runtime.KindNotFound)
	x.refused(x.e.Tag(ctx, x.id+":none", ref), runtime.KindNotFound)
	x.refused(x.e.RemoveImage(ctx, ref, false), runtime.KindNotFound)
	x.ok(x.e.Tag(ctx, x.h.Image, ref))
	tagged, err := x.e.Image(ctx, ref)
	x.ok(err)
	equal(x, "ID", tagged.ID, img.ID)
	x.ok(x.e.RemoveImage(ctx, ref, false))
	_, err = x.e.Image(ctx, ref)
	x.refused(err, runtime.KindNotFound)
	_, err = x.e.Image(ctx, x.h.Image)
	x.ok(err)
}

// build makes an image without content that differs from any other.
func (x *fixture) build(tag string, lines ...string) (string, error) {
	dockerfile := "FROM scratch\nLABEL case=" + x.id + "\n" + strings.Join(lines, "\n") + "\n"
	x.removeImage(tag)
	return x.e.Build(x.Context(), &runtime.Build{
		Context: x.TempDir(), DockerfileInline: dockerfile, Tags: []string{tag}, Labels: map[string]string{"built": "yes"},
	}, nil)
}

func caseImageInUse(x *fixture) {
	tag := x.id + ":used"
	_, err := x.build(tag)
	x.ok(err)
	id, err := x.e.Create(x.Context(), x.name(), x.labels(), &runtime.Spec{Image: tag, Command: []string{"/nothing"}, NetworkMode: "none"}, nil)
	x.ok(err)
	x.refused(x.e.RemoveImage(x.Context(), tag, false), runtime.KindConflict)
	x.ok(x.e.Remove(x.Context(), id, true, false))
	x.ok(x.e.RemoveImage(x.Context(), tag, false))
}

func caseImageBuild(x *fixture) {
	tag := x.id + ":built"
	var progress []string
	x.removeImage(tag)
	id, err := x.e.Build(x.Context(), &runtime.Build{
		Context: x.TempDir(), DockerfileInline: "FROM scratch\nLABEL case=" + x.id + "\n", Tags: []string{tag}, Labels: map[string]string{"built": "yes"},
	}, func(p runtime.Progress) { progress = append(progress, p.Status) })
	x.ok(err)
	img, err := x.e.Image(x.Context(), tag)
	x.ok(err)
	equal(x, "ID", img.ID, id)
	equal(x, "label", img.Labels["built"], "yes")
	if len(progress) == 0 {
		x.Fatal("the build told nothing")
	}
}

func caseImageBuildFails(x *fixture) {
	_, err := x.build(x.id+":bad", "THIS IS NOT A DOCKERFILE")
	x.refused(err, runtime.KindInvalid)
	_, err = x.e.Build(x.Context(), &runtime.Build{Context: x.TempDir(), Tags: []string{x.id + ":none"}}, nil)
	x.refused(err, runtime.KindInvalid)
}

func caseImageUnreachable(x *fixture) {
	x.refused(x.e.Pull(x.Context(), "localhost:1/"+x.id+":none", runtime.PullOptions{}), runtime.KindUnavailable)
}
