package template_test

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/template"
)

var id = uuid.MustParse("0198c0de-0000-7000-8000-000000000001")

func fill(t *testing.T, document, params string) (string, error) {
	t.Helper()
	parsed, err := template.Parse([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	task := engine.Task{ID: id, Params: json.RawMessage(params), Inputs: []engine.Input{{Path: "a.png", Role: "start_image"}}}
	filled, err := parsed.Fill(task, func(input engine.Input) (string, error) { return "up/" + input.Path, nil })
	if err != nil {
		return "", err
	}
	data, err := json.Marshal(filled)
	if err != nil {
		t.Fatal(err)
	}
	return string(data), nil
}

func TestValuesTakeTheirPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ document, params, want string }{
		"prompt":                                    {`"{{prompt}}"`, `{"prompt":"a cat"}`, `"a cat"`},
		"prompt of the orchestrator":                {`"{{prompt}}"`, `{"orchestrator_details":{"base_prompt":"a dog"}}`, `"a dog"`},
		"a whole placeholder keeps its type":        {`["{{seed}}","{{width}}","{{ height }}"]`, `{"seed":18014398509481985,"resolution":"64x32"}`, `[18014398509481985,64,32]`},
		"a part of a text":                          {`"a/{{task_id}}-{{seed}}-{{params.on}}"`, `{"seed":7,"on":true}`, `"a/0198c0de-0000-7000-8000-000000000001-7-true"`},
		"a param within a param":                    {`"{{params.a.b}}"`, `{"a":{"b":[1,{"c":null}]}}`, `[1,{"c":null}]`},
		"a number keeps its spelling":               {`"{{params.n}}"`, `{"n":1.50}`, `1.50`},
		"a default number":                          {`"{{params.steps|20}}"`, `{}`, `20`},
		"a default text":                            {`"{{params.sampler|euler}}"`, `{"sampler":null}`, `"euler"`},
		"an empty default":                          {`"{{prompt|}}"`, `{}`, `""`},
		"a value goes before its default":           {`"{{params.steps|20}}"`, `{"steps":4}`, `4`},
		"false is a value":                          {`"{{params.on|true}}"`, `{"on":false}`, `false`},
		"an input":                                  {`{"image":"{{image.start_image}}"}`, `{}`, `{"image":"up/a.png"}`},
		"numbers of the document stay":              {`{"seed":18446744073709551615}`, `{}`, `{"seed":18446744073709551615}`},
		"a value is no template":                    {`"{{prompt}}"`, `{"prompt":"{{params.key}}","key":"secret"}`, `"{{params.key}}"`},
		"a value within a text is no template":      {`"x {{prompt}}"`, `{"prompt":"{{params.key}}","key":"secret"}`, `"x {{params.key}}"`},
		"a value can't leave its text":              {`{"a":"say {{prompt}}"}`, `{"prompt":"\",\"b\":\"c"}`, `{"a":"say \",\"b\":\"c"}`},
		"keys are not filled":                       {`{"{{prompt}}":1}`, `{}`, `{"{{prompt}}":1}`},
		"closing braces of a JSON text in a text":   {`"{\"a\":{\"b\":1}}"`, `{}`, `"{\"a\":{\"b\":1}}"`},
		"a default is not used for an empty member": {`"{{params.a.b|x}}"`, `{"a":{"b":""}}`, `""`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := fill(t, c.document, c.params)
			if err != nil || got != c.want {
				t.Errorf("got %s, %v; want %s", got, err, c.want)
			}
		})
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ document, params, want string }{
		"prompt":            {`"{{prompt}}"`, `{}`, "The task needs the param prompt."},
		"param":             {`"x{{params.a.b}}"`, `{"a":{}}`, "The task needs the param a.b."},
		"member of a text":  {`"{{params.a.b}}"`, `{"a":"x"}`, "The task needs the param a.b."},
		"size":              {`"{{width}}"`, `{}`, `The task needs a size: give the param resolution, such as "768x512".`},
		"input":             {`"{{image.mask}}"`, `{}`, "The task needs the input mask."},
		"a list in a text":  {`"x{{params.a}}"`, `{"a":[1]}`, "The value of the param a must be a text, a number, or true or false."},
		"a seed of letters": {`"{{seed}}"`, `{"seed":"x"}`, "The param seed must be a whole number."},
		"a broken size":     {`"{{width}}"`, `{"resolution":"wide"}`, `The resolution "wide" is not a size: write WIDTHxHEIGHT, such as 768x512.`},
		"no object":         {`1`, `[]`, "The params are not a JSON object."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := fill(t, c.document, c.params)
			if engine.ClassOf(err) != engine.BadInput || engine.MessageOf(err) != c.want {
				t.Errorf("got %s: %v; want %s", engine.ClassOf(err), err, c.want)
			}
		})
	}
}

func TestAnUnknownPlaceholderIsFoundAtOnce(t *testing.T) {
	t.Parallel()
	for _, document := range []string{
		`"{{promt}}"`, `{"a":["{{image}}"]}`, `"{{params}}"`, `"{{params.}}"`, `"{{prompt"`, `"{{image.a.b}}"`, `"{{}}"`, `"{{params.a b}}"`, `{"a":1} {}`, `{`,
	} {
		if _, err := template.Parse([]byte(document)); err == nil {
			t.Errorf("%s passes", document)
		}
	}
}

func TestHolds(t *testing.T) {
	t.Parallel()
	for document, want := range map[string]bool{`{"a":["x",{"b":"{{seed}}"}]}`: true, `{"a":["x",1,null]}`: false, `"a {{prompt|}} b"`: true} {
		parsed, err := template.Parse([]byte(document))
		if err != nil {
			t.Fatal(err)
		}
		if got := template.Holds(parsed.Document()); got != want {
			t.Errorf("%s: got %v", document, got)
		}
	}
}
