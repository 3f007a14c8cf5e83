/* lcl score as a user meets it. */
#include "tests/support/command.h"

#include "tests/support/tiny.h"

static void score(const char *metric, const char *lines)
{
    SUCCEEDS("score --metric %s --in %s", metric, tiny_file("answers.jsonl", lines));
}

static void answers_are_scored(void **state)
{
    (void)state;
    static const char lines[] =
        "{\"prediction\": \"a kit fox\", \"target\": \"Fox\", \"other\": \"wolf\"}\n"
        "{\"prediction\": \"\\\"fox\\\" or wolf\", \"target\": \"fox\", \"other\": \"wolf\"}\n";
    score("official", lines);
    says("{\"correct\": true}\n{\"correct\": false}\n");
    says("1 of 2 correct (0.5000)");
    score("strict", lines);
    says("{\"correct\": false}\n{\"correct\": true}\n");
    FAILS("answers.jsonl, line 1: \"prediction\" must be a text\nhint: ", "score --in %s",
          tiny_file("answers.jsonl", "{\"prediction\": 1}\n"));
}

static void answers_are_scored_by_benchmarks(void **state)
{
    (void)state;
    score("vqa", "{\"prediction\": \"A dog\", \"answers\": [\"dog\", \"dog\", \"cat\", \"dog\"]}\n"
                 "{\"prediction\": \"x\", \"answers\": [\"y\"]}\n");
    says("{\"score\": 0.7500}\n{\"score\": 0.0000}\n");
    score("vqa", "{\"prediction\": \"The answer is dog.\", \"answers\": [\"dog\"]}\n"
                 "{\"prediction\": \"rain\", \"answers\": [\"The answer is rain.\"]}\n");
    says("{\"score\": 1.0000}\n{\"score\": 1.0000}\n");
    score("pope", "{\"prediction\": \"The answer is yes .\", \"target\": \"yes\"}\n"
                  "{\"prediction\": \"Yes, a nose\", \"target\": \"no\"}\n"
                  "{\"prediction\": \"a knot\", \"target\": \"no\"}\n");
    says("{\"correct\": true}\n{\"correct\": false}\n{\"correct\": false}\n");
    says("precision 0.5000, recall 1.0000, F1 0.6667, says yes 0.6667");
    score("box", "{\"prediction\": \"Answer: [0,0,1,0.6] .\", \"target\": \"[0,0,1,1]\"}\n"
                 "{\"prediction\": \"nowhere\", \"target\": \"[0,0,1,1]\"}\n");
    says("{\"iou\": 0.6000, \"correct\": true}\n{\"iou\": 0.0000, \"correct\": false}\n");
    score("cider", "{\"prediction\": \"a red cat sits\", \"references\": [\"a red cat sits\"]}\n"
                   "{\"prediction\": \"x\", \"references\": [\"two dogs run fast\", \"dogs\"]}\n");
    says("{\"score\": 10.0000}\n{\"score\": 0.0000}\n");
    says("CIDEr 5.0000 over 2 pictures");
    FAILS("line 1: \"references\" must be a list of one or more texts",
          "score --metric cider --in %s",
          tiny_file("answers.jsonl", "{\"prediction\": \"x\", \"references\": []}\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_scored),
        cmocka_unit_test(answers_are_scored_by_benchmarks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
