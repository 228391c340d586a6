"""The vocabulary of the cleaning rules: pieces of regular expressions, to be used without regard to case."""

from __future__ import annotations

# Where a sentence begins: at the start, after the end of another one, or on a new line.
START = r"(?:^|(?<=[.?!]\s)|(?<=[.?!:]\s\s)|(?<=\n))"
END = r"(?=\s*(?:,?\s*please\s*)?(?:[.?!;]|$|\n))"
STOP = r"\s*(?:[.!?;]+(?=\s|$)\s*|$|(?=\n))"

VERB = (
    r"(?:compare|contrast|explain|describe|define|discuss|summari[sz]e|outline|list|name|state|give|tell|"
    r"show|sketch|say|answer|identify|mention|illustrate|justify|analy[sz]e|evaluate|assess|distinguish|differentiate|"
    r"what|why|how|when|where|which|who|whom|whose|is|are|do|does|did|can|could|would|should|introduce|present|derive)"
)
ASK = rf"(?:please\s+)?{VERB}"
BRIEF = r"(?:very\s+)?(?:briefly|concisely|succinctly|in\s+brief|in\s+a\s+nutshell)"
MANY = (
    r"(?:(?:no\s+more\s+than|not\s+more\s+than|at\s+most|at\s+least|less\s+than|fewer\s+than|up\s+to|under|about|around|"
    r"roughly|approximately|exactly|only|just|maximum|max\.?)\s+)?"
    r"(?:a\s+single|a\s+couple\s+of|a\s+few|one|two|three|four|five|six|seven|eight|nine|ten|\d+)"
    r"(?:\s*(?:-|–|to|or)\s*(?:two|three|four|five|six|seven|eight|nine|ten|\d+))?"
)
UNIT = (
    r"(?:\s+|-)(?:short\s+|complete\s+|full\s+|concise\s+|clear\s+)?"
    r"(?:sentences?|words?|lines?|paragraphs?|bullet\s+points?)"
)
LENGTH = rf"(?:in|within|using|with)\s+{MANY}{UNIT}(?:\s+(?:or\s+(?:less|fewer)|max(?:imum)?|at\s+most))?"
EXAMPLE = (
    r"(?:at\s+least\s+)?(?:an?|one|two|some|any)\s+(?:(?:concrete|real|real[- ]world|real[- ]life|practical|relevant|"
    r"simple|short|brief|specific|industrial|industry|small|good)\s+)*(?:examples?|use\s+cases?|illustrations?)"
)
PLACE = (
    r"(?:the\s+|an?\s+|your\s+)?(?:own\s+)?(?:industry|industrial\s+practice|practice|real\s+life|real\s+world|"
    r"real[- ]world\s+(?:applications?|systems?|use)|everyday\s+life|experience|work|company|production)"
)
FROM = rf"\s+(?:from|in|out\s+of)\s+{PLACE}(?:\s+(?:or|and)\s+(?:from\s+)?{PLACE})?"
IT = (
    r"(?:it|this|that|these|those|them|(?:this|the)\s+(?:concept|idea|approach|method|technique|topic|answer)|"
    r"your\s+(?:answer|explanation))"
)
IF = r"(?:\s*,?\s*(?:where|if|when|whenever)\s+(?:possible|relevant|appropriate|applicable|you\s+can))?"
RELATE = rf"(?:relate|connect|link|tie)\s+{IT}\s+(?:back\s+)?(?:to|with)\s+[^.?!\n]{{2,120}}"
OWN = r"(?:in|using)\s+your\s+own\s+words"
STYLE = (
    r"(?:be\s+(?:as\s+)?(?:brief|concise|short|succinct)(?:\s+(?:and|but|as)\s+\w+)*"
    r"|keep\s+(?:it|this|your\s+(?:answer|response|explanation)|the\s+(?:answer|response|explanation))\s+"
    r"(?:\w+\s+and\s+)?(?:brief|concise|short|succinct|simple|to\s+the\s+point|(?:to|under|below|within)\s+[^.?!\n]{2,40})"
    rf"|answer\s+(?:{BRIEF}|{LENGTH}|{OWN}|in\s+(?:full|complete)\s+sentences|in\s+bullet\s+points|as\s+in\s+an\s+exam)"
    r"|(?:your\s+answer|the\s+answer|your\s+response)\s+(?:should|must)\s+(?:be\s+(?:brief|concise|short|no\s+more\s+than|"
    r"at\s+most|between|about|around|limited|in\s)|not\s+exceed|contain\s+at\s+most)[^.?!\n]{0,60}"
    r"|limit\s+(?:yourself|your\s+(?:answer|response))\s+to\s+[^.?!\n]{2,60}"
    r"|(?:use|write\s+in|answer\s+with)\s+(?:(?:short\s+)?bullet\s+points|your\s+own\s+words|full\s+sentences)"
    r"|(?:avoid|do\s+not\s+use|don['’]t\s+use|no)\s+(?:technical\s+)?jargon"
    r"|(?:let['’]s\s+)?think\s+step\s+by\s+step|structure\s+your\s+(?:answer|response)[^.?!\n]{0,60}"
    r"|(?:maximum|max\.?|at\s+most|no\s+more\s+than)\s+\d+\s+(?:words|sentences|lines))"
)
