"""Departments that an expert may be asked of.

Codes and names are those of the list of a medical institution's registered departments
(《医疗机构诊疗科目名录》, Ministry of Health, notice 27 of 1994); a code with a dot is a
specialty of the department before it. Those that do no consultations are left out.
"""

from typing import Final

DEPARTMENTS: Final[dict[str, tuple[str, str]]] = {
    "02": ("全科医疗科", "General practice"),
    "03": ("内科", "Internal medicine"),
    "03.01": ("呼吸内科", "Respiratory medicine"),
    "03.02": ("消化内科", "Gastroenterology"),
    "03.03": ("神经内科", "Neurology"),
    "03.04": ("心血管内科", "Cardiology"),
    "03.05": ("血液内科", "Haematology"),
    "03.06": ("肾病学", "Nephrology"),
    "03.07": ("内分泌", "Endocrinology"),
    "04": ("外科", "Surgery"),
    "04.01": ("普通外科", "General surgery"),
    "04.02": ("神经外科", "Neurosurgery"),
    "04.03": ("骨科", "Orthopaedics"),
    "04.04": ("泌尿外科", "Urology"),
    "04.05": ("胸外科", "Thoracic surgery"),
    "05": ("妇产科", "Obstetrics and gynaecology"),
    "07": ("儿科", "Paediatrics"),
    "10": ("眼科", "Ophthalmology"),
    "11": ("耳鼻咽喉科", "Otorhinolaryngology"),
    "12": ("口腔科", "Stomatology"),
    "13": ("皮肤科", "Dermatology"),
    "15": ("精神科", "Psychiatry"),
    "16": ("传染科", "Infectious diseases"),
    "19": ("肿瘤科", "Oncology"),
    "20": ("急诊医学科", "Emergency medicine"),
    "21": ("康复医学科", "Rehabilitation"),
    "27": ("疼痛科", "Pain medicine"),
    "28": ("重症医学科", "Intensive care"),
    "32": ("医学影像科", "Medical imaging"),
    "32.02": ("CT诊断专业", "CT"),
    "32.05": ("超声诊断专业", "Ultrasound"),
    "50": ("中医科", "Traditional Chinese medicine"),
}
"""Code -> name in Chinese, name in English."""
